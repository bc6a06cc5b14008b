// Creates a room for a user and prints its address. Needs Java 11 only: java Java.java
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Java {
    static final String BASE = System.getenv().getOrDefault("MEET_BASE", "https://gateway.invalid");
    static final HttpClient CLIENT = HttpClient.newHttpClient();

    static String call(HttpRequest.Builder request) throws Exception {
        HttpResponse<String> answer = CLIENT.send(
            request.timeout(Duration.ofSeconds(30)).build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() >= 300) throw new Exception(answer.statusCode() + ": " + answer.body());
        return answer.body();
    }

    // Takes a text out of a JSON object. A real program uses a JSON library.
    static String field(String json, String name) {
        Matcher m = Pattern.compile("\"" + name + "\":\"([^\"]*)\"").matcher(json);
        if (!m.find()) throw new IllegalStateException("no " + name);
        return m.group(1);
    }

    public static void main(String[] args) throws Exception {
        String pair = System.getenv("MEET_CLIENT_ID") + ":" + System.getenv("MEET_CLIENT_SECRET");
        String form = "grant_type=client_credentials&scope="
            + URLEncoder.encode(System.getenv("MEET_USER"), StandardCharsets.UTF_8);
        String token = call(HttpRequest.newBuilder(URI.create(BASE + "/application/token"))
            .header("Authorization", "Basic " + Base64.getEncoder().encodeToString(pair.getBytes(StandardCharsets.UTF_8)))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .POST(HttpRequest.BodyPublishers.ofString(form)));
        // The same key makes the same room, so the request can be sent again.
        String room = call(HttpRequest.newBuilder(URI.create(BASE + "/rooms"))
            .header("Authorization", "Bearer " + field(token, "access_token"))
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", UUID.randomUUID().toString())
            .POST(HttpRequest.BodyPublishers.ofString("{}")));
        System.out.println(field(room, "url"));
    }
}

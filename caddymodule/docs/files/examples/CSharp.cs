// Creates a room for a user and prints its address. Needs .NET 8 only.
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text.Json;

var address = Environment.GetEnvironmentVariable("MEET_BASE") ?? "https://gateway.invalid";
using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(30) };

async Task<JsonElement> Call(HttpRequestMessage request)
{
    using var answer = await client.SendAsync(request);
    answer.EnsureSuccessStatusCode();
    return await answer.Content.ReadFromJsonAsync<JsonElement>();
}

var token = await Call(new HttpRequestMessage(HttpMethod.Post, address + "/application/token")
{
    Content = JsonContent.Create(new
    {
        client_id = Environment.GetEnvironmentVariable("MEET_CLIENT_ID"),
        client_secret = Environment.GetEnvironmentVariable("MEET_CLIENT_SECRET"),
        grant_type = "client_credentials",
        scope = Environment.GetEnvironmentVariable("MEET_USER"),
    }),
});
var creation = new HttpRequestMessage(HttpMethod.Post, address + "/rooms") { Content = JsonContent.Create(new { }) };
creation.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token.GetProperty("access_token").GetString());
// The same key makes the same room, so the request can be sent again.
creation.Headers.Add("Idempotency-Key", Guid.NewGuid().ToString());
Console.WriteLine((await Call(creation)).GetProperty("url").GetString());

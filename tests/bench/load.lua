-- Sends the requests of a file in order, and then starts over. Each line has method, path,
-- Authorization, Content-Type and body, separated by tabs. With the second argument "once"
-- the run ends after the last line.
local requests, at, once = {}, 0, false

function init(args)
	once = args[2] == "once"
	for line in io.lines(args[1]) do
		local method, path, authorization, kind, body = line:match("([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)")
		-- The headers that an HTTP library adds.
		local headers = {Accept = "*/*", ["Accept-Encoding"] = "gzip, deflate", ["User-Agent"] = "python-requests/2.32.3"}
		if authorization ~= "" then headers["Authorization"] = authorization end
		if kind ~= "" then headers["Content-Type"] = kind end
		requests[#requests + 1] = wrk.format(method, path, headers, body ~= "" and body or nil)
	end
end

function request()
	at = at + 1
	if at > #requests then
		if once then
			wrk.thread:stop()
			return requests[#requests]
		end
		at = 1
	end
	return requests[at]
end

function done(summary, latency)
	local e = summary.errors
	io.write(string.format(
		'\n{"requests":%d,"microseconds":%d,"refused":%d,"broken":%d,"p50":%d,"p99":%d,"p999":%d}\n',
		summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
		latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end

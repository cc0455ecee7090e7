-- wrk: dashboards of twenty shops and seven days in turn. Arguments: a request header's value ("" for none), then paths.
local requests, turn = {}, 0

function init(args)
  local headers = { host = "bench" }
  if args[1] ~= "" then headers["cache-control"] = args[1] end
  for i = 2, #args do requests[#requests + 1] = wrk.format("GET", args[i], headers) end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format('RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p95_us": %d, "p99_us": %d, "errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end

-- A sliding window: this minute's requests, and what of the minute before is still inside the last sixty seconds, as if that had been even.
-- KEYS[1]: the caller. ARGV: its limit a minute, and how many requests it sends. The clock is this server's.
local seconds = tonumber(redis.call('TIME')[1])
local minute, left = math.floor(seconds / 60), 60 - seconds % 60
local kept = redis.call('HMGET', KEYS[1], 'minute', 'before', 'now')
local before, now = tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
if tonumber(kept[1]) ~= minute then
  before = tonumber(kept[1]) == minute - 1 and now or 0
  now = 0
end
local used = math.floor(before * left / 60) + now
if used + tonumber(ARGV[2]) > tonumber(ARGV[1]) then
  return {0, now, left}
end
redis.call('HSET', KEYS[1], 'minute', minute, 'before', before, 'now', now + ARGV[2])
redis.call('EXPIRE', KEYS[1], 120)
return {1, ARGV[1] - used - ARGV[2], left}

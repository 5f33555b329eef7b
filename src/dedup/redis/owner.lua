#!lua flags=allow-oom
-- RELEASE (to F), HOLD (to U) and RENEW (to L), if the claim is live and ours. KEYS: event. ARGV: token, phase, time (ms).
-- Answers 1 if it was ours.
local kept = redis.call('GET', KEYS[1])
if not kept or string.sub(kept, 1, 1) ~= 'L' then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local _, unknown, attempt, ends, owner = struct.unpack('>c1BI4I8c16', kept)
if owner ~= ARGV[1] or ends <= now then return 0 end
if ARGV[2] == 'U' then unknown = 1 end
local left = tonumber(ARGV[3])
local value = struct.pack('>c1BI4I8c16', ARGV[2], unknown, attempt, now + left, owner)
redis.call('SET', KEYS[1], value, 'PX', math.max(left, redis.call('PTTL', KEYS[1]), 1))
return 1

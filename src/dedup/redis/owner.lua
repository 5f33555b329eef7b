#!lua flags=allow-oom
-- RELEASE (to F), HOLD (to U) and RENEW (to L), if the claim is live and ours. KEYS: event. ARGV: token, phase, time (ms).
-- Answers 1 if it was ours.
local kept = redis.call('GET', KEYS[1])
if not kept or string.sub(kept, 1, 1) ~= 'L' or string.sub(kept, 23) ~= ARGV[1] then return 0 end
local unknown, attempt, rest = struct.unpack('>BI4I8', kept, 2)
local left, time = redis.call('PTTL', KEYS[1]), tonumber(ARGV[3])
if left <= rest then return 0 end
local keep = math.max(left, time)
local value = struct.pack('>c1BI4I8I8c16', ARGV[2], unknown, attempt, keep - time, time, ARGV[1])
redis.call('SET', KEYS[1], value, 'PX', keep)
return 1

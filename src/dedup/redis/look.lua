#!lua flags=no-writes
-- What is kept and for how many ms lease, hold or window last; nothing where nothing is.
local kept = redis.call('GET', KEYS[1])
if not kept then return false end
if string.sub(kept, 1, 1) == 'D' then return {kept, redis.call('PTTL', KEYS[1])} end
local time = redis.call('TIME')
local _, _, _, ends = struct.unpack('>c1BI4I8', kept)
return {kept, math.max(0, ends - time[1] * 1000 - math.floor(time[2] / 1000))}

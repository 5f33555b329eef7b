#!lua flags=allow-oom
-- COMPLETE, whatever is there, and also when memory is full. KEYS: event [, guard]. ARGV: window (ms), digest of the body,
-- event.
local function put(key, value)
  if tonumber(ARGV[1]) > 0 then
    redis.call('SET', key, value, 'PX', ARGV[1])
  else
    redis.call('DEL', key)
  end
end
put(KEYS[1], 'D' .. ARGV[2])
if KEYS[2] then put(KEYS[2], ARGV[3]) end
return 1

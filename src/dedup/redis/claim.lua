#!lua
-- CLAIM. KEYS: event [, guard that suppresses]. ARGV: value of a first claim, how long it is kept (ms), digest of the body
-- [, event that may pass the guard].
-- Answers one integer: 0 won, 1 in flight, 2 held, 3 done, 4 replayed; and 8 * (2 * attempt + unknown | ms left | same body).
local by = KEYS[2] and redis.call('GET', KEYS[2])
local replayed = by and by ~= ARGV[4]
local kept
if replayed then
  kept = redis.call('GET', KEYS[1])
else
  kept = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'GET', 'PX', ARGV[2])
end
if not kept then return replayed and 4 or 16 end
if string.sub(kept, 1, 1) == 'D' then return 3 + (string.sub(kept, 2) == ARGV[3] and 8 or 0) end
local phase, unknown, attempt, rest, term, owner = struct.unpack('>c1BI4I8I8c16', kept)
local left = redis.call('PTTL', KEYS[1]) - rest
local live = phase ~= 'F' and left > 0 and left <= 2 * term -- more, and the clock was set back
if live and phase == 'U' then return 2 + 8 * left end
if live and owner ~= string.sub(ARGV[1], 23) then return 1 + 8 * left end
if not live then
  if replayed then return 4 end
  attempt = attempt + 1
  if phase ~= 'F' then unknown = 1 end
end
local value = 'L' .. struct.pack('>BI4', unknown, attempt) .. string.sub(ARGV[1], 7)
redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
return 8 * (2 * attempt + unknown)

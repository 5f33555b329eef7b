#!lua
-- CLAIM. KEYS: event [, guard]. ARGV: token, lease, window (ms), digest of the body, event that may pass the guard ('' for any).
-- Answers one integer: 0 won, 1 in flight, 2 done, 3 replayed; and 4 * (2 * attempt + unknown | ms left | same body).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease, window = tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = redis.call('GET', KEYS[1])
local attempt, unknown, mine = 0, 0, false
if kept then
  if string.sub(kept, 1, 1) == 'D' then
    return 2 + (string.sub(kept, 2) == ARGV[4] and 4 or 0)
  end
  local phase, ends, owner
  phase, unknown, attempt, ends, owner = struct.unpack('>c1BI4I8c16', kept)
  if phase ~= 'F' and ends > now then
    mine = phase == 'L' and owner == ARGV[1]
    if not mine then return 1 + 4 * (ends - now) end
  elseif phase ~= 'F' then
    unknown = 1
  end
end
if not mine then
  if KEYS[2] and ARGV[5] ~= '' then
    local by = redis.call('GET', KEYS[2])
    if by and by ~= ARGV[5] then return 3 end
  end
  attempt = attempt + 1
end
local keep = math.max(lease, window)
if keep > 0 then
  local value = struct.pack('>c1BI4I8c16', 'L', unknown, attempt, now + lease, ARGV[1])
  redis.call('SET', KEYS[1], value, 'PX', keep)
else
  redis.call('DEL', KEYS[1])
end
return 4 * (2 * attempt + unknown)

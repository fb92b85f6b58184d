#!lua flags=no-writes
-- What a page or a monitor wants to know of a channel, in one go and in bounded time.
--
-- ARGV  3 ms of silence after which a worker isn't listed; 4 minutes, the present one too, whose copies come first;
--       5 "minute" or "hour", and 6 the number of them whose copies come second: at most 1440
-- Returns  {now, {counts as of counts.lua}, ms since it was paused or -1, {workers as of workers.lua}, counters now,
--           {copies of them as these minutes began, the oldest first, nil of one without}, {the same of argument 5}}
local silence, minutes, unit, count = number(), number(), take(), number()

local function copies(of, length, wanted)
  local names, last = {}, math.floor(now / length)
  for i = 1, wanted do
    names[i] = STATS .. of .. ':' .. last - wanted + i
  end
  return wanted > 0 and call('MGET', unpack(names)) or {}
end

local since = tonumber(call('HGET', META, 'paused') or nil)
return {
  string.format('%.0f', now), census(), since and math.max(0, now - since) or -1, live(silence),
  call('GET', STATS .. 'total') or '', copies('minute', 60000, minutes), copies(unit, unit == 'hour' and 3600000 or 60000, count),
}

#!lua flags=allow-oom
-- For tests: let time pass by moving stored times back, a bounded piece of it. No other script knows of it.
-- Pages in order of rank: what was moved stays below what was not, so no job is moved twice.
--
-- ARGV  3 ms to move; 4 name of the sorted set; 5 rank of the first job; 6 most jobs to move
-- Returns  number of jobs moved
local ms, name, first, limit = number(), take(), number(), number()
local key = ({
  ready = READY, scheduled = SCHEDULED, leases = LEASES, dead = DEAD, finished = FINISHED, succeeded = SUCCEEDED,
  workers = WORKERS, newer = NEWER, parked = PARKED, turns = TURNS, rates = RATES,
})[name]
local function moved(time)
  return string.format('%.0f', tonumber(time) - ms)
end
local places = { ready = true, newer = true, parked = true } -- their scores are places in the order, not times
local jobless = { workers = true, turns = true, rates = true }
if name == 'rates' then -- in microseconds
  local rate = call('HMGET', META, 'tat', 'held')
  if rate[1] and first == 0 then
    call('HSET', META, 'tat', string.format('%.0f', rate[1] - 1000 * ms), 'held', moved(rate[2] or now))
  end
  ms = 1000 * ms
end
local page = call('ZRANGE', key, first, first + limit - 1, 'WITHSCORES')
for i = 1, #page, 2 do
  local id = page[i]
  if not places[name] then
    call('ZADD', key, moved(page[i + 1]), id)
  end
  local group = name == 'dead' and read(id, 'group')[1]
  if group then
    call('ZADD', GROUPS .. ':' .. group, moved(page[i + 1]), id)
  end
  if not jobless[name] then
    for _, field in ipairs({ 'created', 'due', 'first', 'started', 'finished', 'expires' }) do
      local time = read(id, field)[1]
      if time and time ~= '' then
        call('HSET', JOB .. id, field, moved(time))
      end
    end
  end
end
call('HDEL', META, 'swept', 'grace') -- a pause of the sweepers that nobody saw: no grace for it
return #page / 2

#!lua flags=allow-oom
-- For tests: let time pass by moving stored times back, a bounded piece of it. No other script knows of it.
-- Pages in order of rank: what was moved stays below what was not, so no job is moved twice.
--
-- ARGV  3 ms to move; 4 name of the sorted set; 5 rank of the first job; 6 most jobs to move
-- Returns  number of jobs moved
local ms, name, first, limit = number(), take(), number(), number()
local key = ({
  ready = READY, scheduled = SCHEDULED, leases = LEASES, dead = DEAD, finished = FINISHED, succeeded = SUCCEEDED,
  workers = WORKERS, newer = NEWER,
})[name]
local function moved(time)
  return string.format('%.0f', tonumber(time) - ms)
end
local page = call('ZRANGE', key, first, first + limit - 1, 'WITHSCORES')
for i = 1, #page, 2 do
  local id = page[i]
  if name ~= 'ready' and name ~= 'newer' then -- their scores are places in the order, not times
    call('ZADD', key, moved(page[i + 1]), id)
  end
  if name ~= 'workers' then
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

#!lua flags=allow-oom
-- Forget ended jobs of one state, a bounded number of them: the caller goes on until there are no more.
--
-- ARGV  3 state; 4 ms since they ended at least; 5 "" at first, then the time (ms) that the batch before returned;
--       6 jobs to pass over: those of another state that the batches before left
-- Returns  {number forgotten, time (ms) up to which jobs are forgotten, jobs to pass over, or -1 at the end}
-- A crash before it: nothing. After it, reply lost: a repeat forgets the next ones, and these aren't counted.
local state, age, before, skip = take(), number(), take(), number()
local LIMIT = 200
local key = ({ dead = DEAD, cancelled = FINISHED, expired = FINISHED, succeeded = SUCCEEDED })[state]
before = tonumber(before) or now - age

local purged, left = 0, 0
local members = call('ZRANGE', key, skip, skip + LIMIT - 1, 'WITHSCORES')
for i = 1, #members, 2 do
  local id = members[i]
  if tonumber(members[i + 1]) > before then
    skip = -1
    break
  end
  local found = read(id, 'state')[1]
  if found == nil or found == false or found == state then
    if state == 'dead' then
      exhume(id)
    end
    call('ZREM', key, id)
    forget(id)
    purged = purged + 1
  else
    left = left + 1
  end
end
if skip >= 0 then
  skip = #members < 2 * LIMIT and -1 or skip + left
end
return { purged, string.format('%.0f', before), skip }

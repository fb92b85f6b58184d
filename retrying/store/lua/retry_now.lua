#!lua flags=allow-oom
-- Make scheduled jobs ready at once.
--
-- ARGV  3 number of jobs; then their ids
-- Returns  for each the state it is in now, "" when there is no such job
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local states, changed = {}, false
for i = 1, number() do
  local id = take()
  local job = redis.pcall('HMGET', JOB .. id, 'state', 'topic', 'order')
  local state = job.err and 'succeeded' or job[1]
  if state == 'scheduled' then
    call('ZREM', SCHEDULED, id)
    make_ready(id, job[2], job[3])
    state, changed = 'ready', true
  end
  states[i] = state or ''
end
if changed then
  ring()
end
return states

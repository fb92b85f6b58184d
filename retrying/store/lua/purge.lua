#!lua flags=allow-oom
-- Forget jobs that have ended: their ids may be used again at once.
--
-- ARGV  3 the state in which they ended, "" for any; 4 number of jobs; then their ids
-- Returns  for each the state that keeps it, "" when there is no such job (any more)
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local ended_in, states = take(), {}
for i = 1, number() do
  local id = take()
  local job = redis.pcall('HMGET', JOB .. id, 'state')
  local state = job.err and 'succeeded' or job[1]
  local alive = state == 'scheduled' or state == 'ready' or state == 'running'
  if state and not alive and (ended_in == '' or ended_in == state) then
    exhume(id)
    call('ZREM', FINISHED, id)
    call('ZREM', SUCCEEDED, id)
    forget(id)
    state = nil
  end
  states[i] = state or ''
end
return states

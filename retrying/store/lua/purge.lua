#!lua flags=allow-oom
-- Forget a job that has ended, whatever its end: its id may be used again at once.
--
-- ARGV  3 id
-- Returns  the state that keeps it (scheduled, ready, running), "" when there is no such job (any more)
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local id = take()
local state = read(id, 'state')[1]
if state == 'scheduled' or state == 'ready' or state == 'running' then
  return state
end
call('ZREM', DEAD, id)
call('ZREM', FINISHED, id)
call('ZREM', SUCCEEDED, id)
forget(id)
return ''

#!lua flags=allow-oom
-- End attempts whose job is to be forgotten: it is cancelled, with the reason.
--
-- ARGV  3 number of attempts; then for each id, token, reason, its trace
-- Returns  for each 1 done | 0 repeated | -1 lease lost
-- A crash before it: the lease ends and the attempt counts as rescued. After it, reply lost: a repeat changes nothing.
local results = {}
for i = 1, number() do
  local id, token, reason, trace = take(), take(), take(), take()
  local status = fence(id, token)
  if status == 1 then
    local job = read(id, 'topic', 'cancel', 'attempt')
    unlease(id, token)
    blame(id, job[3], trace)
    ran(id)
    finish(id, job[1], 'cancelled', job[2] or reason) -- who cancelled it said why
  end
  results[i] = status
end
record()
return results

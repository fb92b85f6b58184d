#!lua flags=allow-oom
-- Give leased jobs back uncharged, to their old place in the order: the handler never began, or the worker stops.
--
-- ARGV  3 number of jobs; then for each id, token
-- Returns  for each 1 done | 0 repeated | -1 lease lost
-- A crash before it: the lease ends and the attempt counts as rescued. After it, reply lost: a repeat changes nothing.
local results = {}
for i = 1, number() do
  local id, token = take(), take()
  local status = fence(id, token)
  if status == 1 then
    local job = read(id, 'topic', 'attempt', 'cancel', 'order')
    unlease(id, token)
    call('HINCRBY', JOB .. id, 'releases', 1)
    tally(RELEASED)
    emit(id, job[1], 'released', 'attempt', job[2])
    if job[3] then
      finish(id, job[1], 'cancelled', job[3])
    else
      make_ready(id, job[1], job[4])
      ring()
    end
  end
  results[i] = status
end
record()
return results

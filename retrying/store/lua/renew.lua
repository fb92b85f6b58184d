#!lua flags=allow-oom
-- Prolong leases.
--
-- ARGV  3 lease (ms); 4 number of jobs; then for each id, token
-- Returns  for each 1 prolonged | 2 prolonged, and asked to stop (cancel) | -1 lease lost
-- A crash before it: the leases end when they would have. After it, reply lost: a repeat prolongs again.
local lease = number()
local results = {}
for i = 1, number() do
  local id, token = take(), take()
  local job = read(id, 'token', 'cancel')
  if job[1] == token then
    call('ZADD', LEASES, now + lease, id)
    results[i] = job[2] and 2 or 1
  else
    results[i] = -1
  end
end
return results

#!lua flags=allow-oom
-- A running handler says something: progress or events of its own, on the job's topic.
--
-- ARGV  3 id; 4 token; 5 number of the batch, different for every batch of the attempt; 6 number of events; then for
--       each its name, number of fields, and field, value, ...
-- Returns  1 done, or done before | -1 lease lost
-- A crash before it: nothing is said. After it, reply lost: a repeat says nothing more.
local id, token, batch = take(), take(), take()
local job = read(id, 'token', 'topic', 'attempt', 'said')
if job[1] ~= token then
  return -1
end
local said = token .. ':' .. batch
if job[4] ~= said then
  call('HSET', JOB .. id, 'said', said)
  for _ = 1, number() do
    local name, fields = take(), {}
    for i = 1, 2 * number() do
      fields[i] = take()
    end
    append(id, job[2], name, 'attempt', job[3], unpack(fields))
  end
  announce(job[2], 'emit')
end
return 1

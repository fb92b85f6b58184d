#!lua flags=allow-oom
-- A running handler says something: progress or an event of its own, on the job's topic.
--
-- ARGV  3 id; 4 token; 5 event name; 6 number of fields; then field, value, ...
-- Returns  1 done | -1 lease lost
-- A crash before it: nothing is said. After it, reply lost: a repeat says it twice (a later event of the same meaning).
local id, token, name = take(), take(), take()
local job = read(id, 'token', 'topic', 'attempt')
if job[1] ~= token then
  return -1
end
local fields = {}
for i = 1, 2 * number() do
  fields[i] = take()
end
emit(id, job[2], name, 'attempt', job[3], unpack(fields))
return 1

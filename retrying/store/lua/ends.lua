#!lua flags=no-writes
-- Where the logs of topics end: a look at many, in place of a read of each.
--
-- ARGV  3 number of topics; then their names
-- Returns  for each the id of its last entry, <epoch>-<offset>, or "" without one
local ends = {}
for i = 1, number() do
  local last = redis.pcall('XREVRANGE', TOPIC .. take(), '+', '-', 'COUNT', 1)
  ends[i] = not last.err and last[1] and last[1][1] or ''
end
return ends

#!lua flags=no-writes
-- Dead letters by group, those in which one died last first.
--
-- ARGV  3 groups to pass over; 4 most groups
-- Returns  {dead letters in all, groups in all, {for each group {name, dead letters, when one died first and last (ms), id of the last}}}
local skip, wanted = number(), number()
local groups = {}
for _, group in ipairs(call('ZRANGE', GROUPS, skip, skip + wanted - 1, 'REV')) do
  local key = GROUPS .. ':' .. group
  local first, last = call('ZRANGE', key, 0, 0, 'WITHSCORES'), call('ZRANGE', key, -1, -1, 'WITHSCORES')
  if first[1] then
    groups[#groups + 1] = { group, call('ZCARD', key), first[2], last[2], last[1] }
  end
end
return { call('ZCARD', DEAD), call('ZCARD', GROUPS), groups }

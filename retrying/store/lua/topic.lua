#!lua flags=no-writes
-- Read a topic's log from a position on.
--
-- ARGV  3 topic; 4 epoch; 5 offset of the last event seen, both "" for the whole log; 6 most events to return
-- Returns  {epoch of the log, offset of its last event, 1 when nothing was missed since the position, {entry, ...}}
local key, epoch, offset, limit = TOPIC .. take(), take(), take(), take()
local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
if not last then
  return { '0', '0', (epoch == '' or epoch == '0') and 1 or 0, {} }
end
local last_epoch, last_offset = string.match(last[1], '^(%d+)-(%d+)$')
local from, recovered = '-', 0
if epoch == '' then
  recovered = 1
elseif epoch == last_epoch and tonumber(offset) <= tonumber(last_offset) then
  local first = call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if tonumber(offset) + 1 >= tonumber(string.match(first[1], '-(%d+)$')) then
    from, recovered = '(' .. epoch .. '-' .. offset, 1
  end
end
return { last_epoch, last_offset, recovered, call('XRANGE', key, from, '+', 'COUNT', limit) }

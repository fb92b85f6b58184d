#!lua flags=no-writes
-- Count a channel's jobs.
--
-- Returns  {scheduled, ready, running, dead, cancelled and expired and kept successes, age (ms) of the next ready job}
local created = now
for _, place in ipairs({ READY, PARKED }) do
  local head = call('ZRANGE', place, 0, 0)[1]
  if head then
    created = math.min(created, tonumber(read(head, 'created')[1] or now))
  end
end
return {
  call('ZCARD', SCHEDULED), call('ZCARD', READY) + call('ZCARD', PARKED), call('ZCARD', LEASES), call('ZCARD', DEAD),
  call('ZCARD', FINISHED) + call('ZCARD', SUCCEEDED), now - created,
}

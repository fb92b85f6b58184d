#!lua
-- Store new jobs, all of them or (out of memory, over capacity) none.
-- No allow-oom here: a full server refuses the script before its first write.
--
-- ARGV  3 capacity: most jobs waiting (ready + scheduled), "" without limit; 4 ms for which an ended job's id is still
--       known; 5 number of jobs; then for each
--       id, payload, priority, delay (ms) or "", time to run at (ms) or "", ms until it expires or "", topic or "", policy or ""
-- Returns  {} when over capacity, else for each {1 new | 0 known, state, due or "", created, attempt}
-- A crash before it: nothing. After it, reply lost: the same ids again change nothing.
local capacity, remembered, count = take(), number(), number()
if capacity ~= '' then
  local fresh = count
  for i = 0, count - 1 do
    fresh = fresh - call('EXISTS', JOB .. ARGV[cursor + 1 + 8 * i]) -- a repeat of a stored job takes no place
  end
  if fresh > 0 and call('ZCARD', READY) + call('ZCARD', SCHEDULED) + fresh > tonumber(capacity) then
    return {}
  end
end
local results, ready = {}, false
for i = 1, count do
  local id, payload, priority = take(), take(), number()
  local delay, run_at, expires, topic, policy = take(), take(), take(), take(), take()
  local known = redis.pcall('HMGET', JOB .. id, 'state', 'due', 'created', 'attempt', 'finished')
  if (known[1] == 'cancelled' or known[1] == 'expired') and tonumber(known[5]) < now - remembered then
    call('ZREM', FINISHED, id)
    call('DEL', JOB .. id)
    known = {}
  end
  if known.err then
    results[i] = { 0, 'succeeded', '', '', '0' }
  elseif known[1] then
    results[i] = { 0, known[1], known[2] or '', known[3], known[4] or '0' }
  else
    local due = now
    if delay ~= '' then
      due = now + tonumber(delay)
    elseif run_at ~= '' then
      due = tonumber(run_at)
    end
    local state = create(id, payload, { priority = priority, due = due, expires = expires, topic = topic, policy = policy })
    ready = ready or state == 'ready'
    results[i] = { 1, state, state == 'scheduled' and string.format('%.0f', due) or '', now, '0' }
  end
end
if ready then
  ring()
end
return results

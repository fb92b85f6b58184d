#!lua
-- Store new jobs, all of them or (out of memory, over capacity) none.
-- No allow-oom here: a full server refuses the script before its first write.
--
-- ARGV  3 capacity: most jobs waiting (ready + scheduled), "" without limit; 4 ms for which an ended job's id is still
--       known; 5 "" or, for a piece of many jobs, "name first ttl": "-" or the batch, the number of its items before
--       these, ms to remember how many are stored; 6 number of jobs; then for each (WORDS of them)
--       id, unique name or "", how long to hold it: "" until it has ended, "started" or ms, payload, priority, delay (ms)
--       or "", time to run at (ms) or "", ms until it expires or "", topic or "", policy or "",
--       key or ""
-- Returns  {} when over capacity, else for each
--          {1 new | 0 known, state, due or "", created, attempt, id, priority, topic}: of the job that has the id or name
--          For a piece of many: {new, known, items of the batch that are stored, jobs waiting}; when fewer than `first`
--          are stored, the server lost some, and nothing is done
-- A crash before it: nothing. After it, reply lost: the same ids again change nothing.
local WORDS = 11
local capacity, remembered, piece, count = take(), number(), take(), number()
local batch, first, ttl = string.match(piece, '^(%S+) (%d+) (%d+)$')

-- The job that is known by that id or holds that name; nil when there is none (and true when one that
-- ended long ago is in its way).
local function find(id, unique)
  local job = redis.pcall('HMGET', JOB .. id, 'state', 'due', 'created', 'attempt', 'priority', 'topic', 'finished')
  if job.err then
    return { 0, 'succeeded', '', '', '0', id, '0', '' }
  end
  local past = (job[1] == 'cancelled' or job[1] == 'expired') and tonumber(job[7]) < now - remembered
  if job[1] and not past then
    return { 0, job[1], job[2] or '', job[3], job[4] or '0', id, job[5] or '0', job[6] or '' }
  end
  local first = unique ~= '' and holder(unique)
  if first and first ~= id then
    return find(first, '') or { 0, 'succeeded', '', '', '0', first, '0', '' } -- held for a time, and nothing is left of it
  end
  return nil, past
end

local function waiting()
  return call('ZCARD', READY) + call('ZCARD', SCHEDULED) + call('ZCARD', PARKED)
end

local stored = 0
if batch then
  first = tonumber(first)
  stored = batch == '-' and first or tonumber(call('GET', BATCH .. batch) or 0)
  if stored < first or count == 0 then
    return { 0, 0, stored, waiting() }
  end
  local skip = math.min(stored - first, count) -- another process has stored these
  cursor, count = cursor + skip * WORDS, count - skip
end

if capacity ~= '' then
  local fresh = count
  for i = cursor + 1, cursor + count * WORDS, WORDS do
    if find(ARGV[i], ARGV[i + 1]) then
      fresh = fresh - 1 -- a repeat of a stored job takes no place
    end
  end
  if fresh > 0 and waiting() + fresh > tonumber(capacity) then
    return {}
  end
end
local results, ready, new = {}, false, 0
for i = 1, count do
  local id, unique, hold, payload, priority = take(), take(), take(), take(), number()
  local delay, run_at, expires, topic, policy, key = take(), take(), take(), take(), take(), take()
  local known, past = find(id, unique)
  if known then
    results[i] = known
  else
    if past then
      call('ZREM', FINISHED, id)
      forget(id)
    end
    local due = now
    if delay ~= '' then
      due = now + tonumber(delay)
    elseif run_at ~= '' then
      due = tonumber(run_at)
    end
    local state = create(id, payload, {
      priority = priority, due = due, expires = expires, topic = topic, policy = policy, key = key, unique = unique,
      hold = hold,
    })
    ready, new = ready or state == 'ready', new + 1
    results[i] = { 1, state, state == 'scheduled' and string.format('%.0f', due) or '', now, '0', id, priority, topic }
  end
end
record()
if ready then
  ring()
end
if batch then
  if batch ~= '-' then
    stored = stored + count
    call('SET', BATCH .. batch, string.format('%.0f', stored), 'PX', ttl)
  end
  return { new, count - new, stored, waiting() }
end
return results

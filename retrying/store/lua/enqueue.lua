#!lua
-- Store new jobs, all of them or (out of memory, over capacity) none; or each by itself.
-- No allow-oom here: a full server refuses the script before its first write.
--
-- ARGV  3 capacity: most jobs waiting (ready + scheduled), "" without limit; 4 ms for which an ended job's id is still
--       known; 5 "" or "each": a job over capacity is refused, not all; or, for a piece of many jobs, "name first ttl":
--       "-" or the batch, the number of its items before these, ms to remember how many are stored; then for each job
--       (WORDS of them) id, payload, and "" or its options as a msgpack map of those it has: unique (a name), hold (how
--       long that is held: "started", or ms; none: until it has ended), priority, delay (ms), run_at (ms), expires (ms
--       from now), topic, policy, key
-- Returns  {} when over capacity, now when all were stored, else {now, then for each job that wasn't
--          {its number, state, due or "", created, attempt, id, priority, topic}: of the job that has the id or name, or
--          {its number} when it was refused}
--          For a piece of many: {new, known, items of the batch that are stored, jobs waiting}; when fewer than `first`
--          are stored, the server lost some, and nothing is done
-- A crash before it: nothing. After it, reply lost: the same ids again change nothing.
local capacity, remembered, piece = ARGV[3], ARGV[4], ARGV[5]

-- Most often it is one job without options, whose id is unknown: stored before what all others need is made.
if #ARGV == 8 and ARGV[8] == '' and capacity == '' and (piece == 'each' or piece == '') then
  local id, payload, job = ARGV[6], ARGV[7], JOB .. ARGV[6]
  -- One look at three keys, a key counts as often as it is named: 4 for the job, 2 for the bell, 1 for the minute.
  local there = call('EXISTS', job, job, job, job, BELL, BELL, MINUTE)
  if there < 4 then
    call('ZADD', READY, create(id, payload, arrive(1)), id)
    if there < 2 then
      call('LPUSH', BELL, '1') -- as ring
    end
    book(there % 2 == 0, 'INCRBY', 'u32', ENQUEUED * 32, 1)
    return now
  end
end
-- THE REST
local WORDS = 3
cursor = 5
capacity, remembered = tonumber(capacity), tonumber(remembered)
local batch, first, ttl
if piece ~= 'each' then
  batch, first, ttl = string.match(piece, '^(%S+) (%d+) (%d+)$')
end
local count = (#ARGV - cursor) / WORDS

-- The job that is known by that id or holds that name; nil when there is none (and true when one that
-- ended long ago is in its way).
local function find(id, unique)
  local past
  if call('EXISTS', JOB .. id) == 1 then
    local job = redis.pcall('HMGET', JOB .. id, 'state', 'due', 'created', 'attempt', 'priority', 'topic', 'finished')
    if job.err then
      return { 'succeeded', '', '', '0', id, '0', '' }
    end
    past = (job[1] == 'cancelled' or job[1] == 'expired') and tonumber(job[7]) < now - remembered
    if not past then
      return { job[1], job[2] or '', job[3], job[4] or '0', id, job[5] or '0', job[6] or '' }
    end
  end
  local other = unique and holder(unique)
  if other and other ~= id then
    return find(other) or { 'succeeded', '', '', '0', other, '0', '' } -- held for a time, and nothing is left of it
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

local room = capacity and capacity - waiting() or math.huge
if capacity and piece ~= 'each' then
  local fresh = count
  for i = cursor + 1, cursor + count * WORDS, WORDS do
    local options = ARGV[i + 2]
    if find(ARGV[i], options ~= '' and cmsgpack.unpack(options).unique) then
      fresh = fresh - 1 -- a repeat of a stored job takes no place
    end
  end
  if fresh > 0 and fresh > room then
    return {}
  end
end

local reply, new = { now }, 0
local arrival, places -- the next job's place in the order of arrival, and how many there are from it on
local ready, scheduled = {}, {}
for i = 1, count do
  local id, payload, options = take(), take(), take()
  options = options ~= '' and cmsgpack.unpack(options)
  local known, past = find(id, options and options.unique)
  if known then
    table.insert(known, 1, i)
    reply[#reply + 1] = known
  elseif room < 1 then
    reply[#reply + 1] = { i }
  else
    if past then
      call('ZREM', FINISHED, id)
      forget(id)
    end
    if not arrival then
      places = count - i + 1
      arrival = arrive(places)
    end
    local order, due
    if options then
      order, due = create_with(options, id, payload, arrival)
    else
      order = create(id, payload, arrival)
    end
    if due then
      scheduled[#scheduled + 1] = due
      scheduled[#scheduled + 1] = id
    else
      ready[#ready + 1] = order
      ready[#ready + 1] = id
    end
    tally(ENQUEUED)
    arrival, places, new, room = arrival + 1, places - 1, new + 1, room - 1
  end
end
if places and places > 0 then
  arrive(-places)
end
-- In one call for all, as far as Lua's stack allows.
local function add(key, scores)
  for i = 1, #scores, 4000 do
    call('ZADD', key, unpack(scores, i, math.min(i + 3999, #scores)))
  end
end
add(SCHEDULED, scheduled)
if #ready > 0 then
  add(READY, ready)
  ring()
end
record()
if batch then
  if batch ~= '-' then
    stored = stored + count
    call('SET', BATCH .. batch, string.format('%.0f', stored), 'PX', ttl)
  end
  return { new, count - new, stored, waiting() }
end
return #reply > 1 and reply or now

#!lua flags=allow-oom
-- End attempts that succeeded, then lease ready jobs to a worker: the worker's one round trip per batch.
--
-- ARGV  3 worker id; 4 token: random, new for every claim, the proof of the leases it gives; 5 lease (ms); 6 jobs wanted;
--       7 "1" when this claim is repeated because its reply was lost; 8 ms to keep tombstones; 9 successes to keep;
--       10 most jobs of the channel that may run at once over all workers, "" without limit;
--       11 the channel's limits, "" without, else six words, "-" for none: microseconds from one claim to the next and
--       burst of the channel's rate, the same of each key's rate, concurrency of each key, "ordered" when a job holds
--       its key until it has ended; 12 successes: "id token id token ..."; 13 how many of them returned something to
--       keep; then for each of these which one it is (1 is the first), the result, ms to keep it
-- Returns  {now, next due time or "", time (ms) before which the channel's rate lets no more pass or "",
--           {for each success 1 done | 0 repeated | -1 lease lost},
--           {for each job {id, payload, attempt, created, then field, value for those that it has of priority, policy,
--           topic, failures, rescues, releases}}}
-- A crash before it: the successes run again when their leases end. After it, reply lost: a repeat gets the same jobs.
local worker, token, lease, wanted, repeated = take(), take(), number(), number(), take()
local tombstone, keep, limit, limits, successes = take(), number(), tonumber(take()), take(), take()
quiet = true

local results = {}
for _ = 1, number() do
  results[number()] = { take(), take() }
end
local settled, gone = {}, {}
for id, held in string.gmatch(successes, '(%S+) (%S+)') do
  local status, job = fence(id, held, 'started', 'topic', 'unique', 'key')
  local result = results[#settled + 1]
  settled[#settled + 1] = status
  if status == 1 then
    tally_time(RAN, now - (job[2] or now))
    if job[4] or job[5] then
      ended(id)
    end
    local attempt = job[3] and read(id, 'attempt')[1]
    gone[#gone + 1] = id
    if keep == 0 and not result then
      call('PSETEX', JOB .. id, tombstone, 'succeeded:' .. held)
    else
      call('HSET', JOB .. id, 'token', '', 'settled', held, 'state', 'succeeded', 'finished', now)
      if keep > 0 then
        call('ZADD', SUCCEEDED, now, id)
      end
      if result then
        call('HSET', JOB .. id, 'result', result[1])
        call('PEXPIRE', JOB .. id, result[2])
      end
    end
    if job[3] then
      emit(id, job[3], 'succeeded', 'attempt', attempt)
    end
  end
end
if #gone > 0 then
  call('ZREM', LEASES, unpack(gone))
  tally(DONE, #gone)
end

-- What the worker is told of a job. `extra` and `past`: the values of its fields of these names, `past` nil before the
-- second attempt.
local jobs, ends = {}, string.format('%.0f', now + lease)
local EXTRA, PAST = { 'priority', 'policy', 'topic' }, { 'failures', 'rescues', 'releases' }
local function add(id, attempt, payload, created, extra, past)
  local job = { id, payload, attempt, created }
  for i = 1, 3 do
    if extra[i] then
      job[#job + 1], job[#job + 2] = EXTRA[i], extra[i]
    end
    if past and past[i] then
      job[#job + 1], job[#job + 2] = PAST[i], past[i]
    end
  end
  jobs[#jobs + 1] = job
end

if repeated == '1' then
  for _, id in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    local job = read(id, 'priority', 'policy', 'topic', 'token', 'payload', 'attempt', 'created')
    if job[4] == token then
      call('ZADD', LEASES, ends, id)
      add(id, job[6], job[5], job[7], job, read(id, unpack(PAST)))
    end
  end
  wanted = wanted - #jobs
end

local next_due = call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')[2]
if next_due and tonumber(next_due) <= now then
  promote(50) -- as many as 100 slots ask for; the sweep moves the rest, if there are more
  next_due = call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')[2]
end

local interval, burst, key_interval, key_burst, key_concurrency, ordered
if limits ~= '' then
  local words = {}
  for word in string.gmatch(limits, '%S+') do
    words[#words + 1] = word
  end
  interval, burst, key_interval, key_burst = tonumber(words[1]), tonumber(words[2]), tonumber(words[3]), tonumber(words[4])
  key_concurrency, ordered = tonumber(words[5]), words[6] == 'ordered'
end
local by_key = key_interval or key_concurrency
local admit -- Whether a job may begin as far as its key's limits go; else it is parked.
if by_key then
  for _, key in ipairs(call('ZRANGE', TURNS, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100 + wanted)) do
    turn(key)
  end

  -- Let the job wait for its key: until `at`, or until an attempt or a job of the key ends.
  local function park(id, key, order, holds, at)
    call('ZADD', WAITING .. key, holds and 0 or order, id)
    call('ZADD', PARKED, order, id)
    if at then
      call('ZADD', TURNS, 'LT', at, key)
    else
      call('ZADD', TURNS, 'NX', now + 60000, key)
    end
  end

  function admit(id, key, order, holds)
    if key_concurrency and not holds and call('SCARD', HOLDERS .. key) >= key_concurrency then
      park(id, key, order)
      return false
    end
    local free, tat
    if key_interval then
      free, tat = tokens(call('ZSCORE', RATES, key), key_interval, key_burst)
      if free < 1 then
        park(id, key, order, holds, refill(tat, key_interval, key_burst))
        return false
      end
    end
    local first = call('ZRANGE', WAITING .. key, 0, 0, 'WITHSCORES')
    if first[1] and not holds and tonumber(first[2]) < tonumber(order) then -- it was there before
      park(id, key, order)
      hand_on(key)
      return false
    end
    if key_concurrency and not holds then
      call('SADD', HOLDERS .. key, id)
      call('HSET', JOB .. id, 'holds', ordered and 'job' or 'attempt')
    end
    if key_interval then
      free, tat = free - 1, tat + math.ceil(key_interval)
      call('ZADD', RATES, string.format('%.0f', tat), key)
    end
    if first[1] then -- is there room for another one?
      if free == 0 then
        call('ZADD', TURNS, 'LT', refill(tat, key_interval, key_burst), key)
      elseif not key_concurrency or call('SCARD', HOLDERS .. key) < key_concurrency then
        hand_on(key)
      end
    end
    return true
  end
end

-- Lease a job that READY held. Returns 1, or 0 when it was none to run: expired, of a newer format, evicted; or when its
-- key is at its limit.
local leased = {}
local function begin(id, order)
  local job = read(
    id, 'priority', 'policy', 'topic', 'state', 'v', 'payload', 'created', 'attempt', 'expires', 'due', 'unique_until', 'key'
  )
  local attempt, expires, ready, until_, key = job[8], job[9], job[10] or job[7], job[11], job[12]
  if job[4] ~= 'ready' then
    return 0
  elseif tonumber(job[5]) > FORMAT then
    call('ZADD', NEWER, order, id)
    return 0
  elseif expires and not attempt and tonumber(expires) <= now then
    finish(id, job[3], 'expired', 'expired before its first attempt')
    return 0
  elseif by_key and key and not admit(id, key, order, read(id, 'holds')[1]) then
    return 0
  end
  if until_ == 'started' then
    let_go(id, read(id, 'unique')[1])
  end
  local past
  if attempt then
    past = read(id, 'failures', 'rescues', 'releases', 'worker', 'started')
    remember(id, attempt + 1, past[4], past[5])
  end
  attempt = (attempt or 0) + 1
  add(id, attempt, job[6], job[7], job, past)
  call('HSET', JOB .. id, 'state', 'running', 'token', token, 'worker', worker, 'started', now, 'attempt', attempt)
  leased[#leased + 1], leased[#leased + 2] = ends, id
  tally_time(WAITED, now - (ready or now))
  if job[3] then
    emit(id, job[3], 'running', 'attempt', attempt, 'worker', worker)
  end
  return 1
end

local room, free, tat = wanted, nil, nil
if limit then
  room = math.min(room, limit - call('ZCARD', LEASES))
end
if interval then
  free, tat = tokens(call('HGET', META, 'tat'), interval, burst)
  room = math.min(room, free)
end

-- What can't be run takes nobody's place: a claim that came back empty because of it would make the worker wait.
local taken, looked, waiting = 0, 0, call('ZCARD', READY)
local most = waiting > 0 and call('HEXISTS', META, 'paused') == 0 and wanted + 200 or 0
while taken < room and looked < most and (looked < waiting or by_key) do
  local popped = call('ZPOPMIN', READY, room - taken)
  if #popped == 0 then
    break
  end
  for i = 1, #popped, 2 do
    taken, looked = taken + begin(popped[i], popped[i + 1]), looked + 1
  end
end
if taken > 0 then
  call('ZADD', LEASES, unpack(leased))
  tally(STARTED, taken)
end

local more, held = waiting > looked, ''
if by_key and waiting > 0 then
  more = call('ZCARD', READY) > 0 -- some went back there
end
if interval then
  tat = tat + math.ceil(taken * interval)
  if taken > 0 then
    call('HSET', META, 'tat', string.format('%.0f', tat))
  end
  if more and taken == free and taken < wanted then
    held = refill(tat, interval, burst)
    call('HSET', META, 'held', held)
  end
end
if by_key then
  local at = call('ZRANGE', TURNS, 0, 0, 'WITHSCORES')[2]
  if at and (not next_due or tonumber(at) < tonumber(next_due)) then
    next_due = at
  end
end
if more and (taken >= wanted or looked >= most and most > 0) and not (limit and call('ZCARD', LEASES) >= limit) then
  ring() -- this worker took all it can (or heard a bell that it has no room for): the rest is for somebody else
end
record()
return { now, next_due or '', held, settled, jobs }

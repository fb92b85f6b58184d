#!lua flags=allow-oom
-- End attempts that succeeded, then lease ready jobs to a worker: the worker's one round trip per batch.
--
-- ARGV  3 worker id; 4 token: random, new for every claim, the proof of the leases it gives; 5 lease (ms); 6 jobs wanted;
--       7 "1" when this claim is repeated because its reply was lost; 8 ms to keep tombstones; 9 successes to keep;
--       10 most jobs of the channel that may run at once over all workers, "" without limit;
--       11 the channel's limits, "" without, else six words, "-" for none: microseconds from one claim to the next and
--       burst of the channel's rate, the same of each key's rate, concurrency of each key, "ordered" when a job holds
--       its key until it has ended; 12 number of successes; then for each its id, token, result, and ms to
--       keep the result (0: only a tombstone)
-- Returns  {now, next due time or "", time (ms) before which the channel's rate lets no more pass or "",
--           {for each success 1 done | 0 repeated | -1 lease lost},
--           {for each job {id, payload, attempt, failures, rescues, releases, created, priority, policy, topic, worker before}}}
-- A crash before it: the successes run again when their leases end. After it, reply lost: a repeat gets the same jobs.
local worker, token, lease, wanted, repeated = take(), take(), number(), number(), take()
local tombstone, keep, limit, limits, successes = take(), number(), tonumber(take()), take(), number()
quiet = true

local settled = {}
for i = 1, successes do
  local id, held, result, ttl = take(), take(), take(), number()
  local status = fence(id, held)
  if status == 1 then
    local job = read(id, 'topic', 'attempt', 'unique', 'key', 'started')
    tally(DONE)
    tally_time(RAN, now - tonumber(job[5] or now))
    if job[3] or job[4] then
      ended(id)
    end
    if keep > 0 or ttl > 0 then
      unlease(id, held)
      call('HSET', JOB .. id, 'state', 'succeeded', 'finished', now)
      if keep > 0 then
        call('ZADD', SUCCEEDED, now, id)
      end
      if ttl > 0 then
        call('HSET', JOB .. id, 'result', result)
        call('PEXPIRE', JOB .. id, ttl)
      end
    else
      call('ZREM', LEASES, id)
      call('SET', JOB .. id, 'succeeded:' .. held, 'PX', tombstone)
    end
    emit(id, job[1], 'succeeded', 'attempt', job[2])
  end
  settled[i] = status
end

local jobs = {}
local function add(id)
  local job = read(id, 'payload', 'attempt', 'failures', 'rescues', 'releases', 'created', 'priority', 'policy', 'topic', 'worker')
  jobs[#jobs + 1] = {
    id, job[1], job[2], job[3] or '0', job[4] or '0', job[5] or '0', job[6], job[7] or '0', job[8] or '', job[9] or '', job[10] or '',
  }
end

if repeated == '1' then
  for _, id in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    if read(id, 'token')[1] == token then
      call('ZADD', LEASES, now + lease, id)
      add(id)
    end
  end
  wanted = wanted - #jobs
end

local next_due = call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')[2]
if next_due and tonumber(next_due) <= now then
  promote(100) -- the sweep moves the rest, if there are more
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
local function begin(id, order)
  local job = read(id, 'state', 'topic', 'expires', 'attempt', 'v', 'unique_until', 'worker', 'started', 'key', 'holds', 'due', 'created')
  if job[1] ~= 'ready' then
    return 0
  elseif tonumber(job[5]) > FORMAT then
    call('ZADD', NEWER, order, id)
    return 0
  elseif job[3] and not job[4] and tonumber(job[3]) <= now then
    finish(id, job[2], 'expired', 'expired before its first attempt')
    return 0
  elseif by_key and job[9] and not admit(id, job[9], order, job[10]) then
    return 0
  end
  local attempt = call('HINCRBY', JOB .. id, 'attempt', 1)
  if job[6] == 'started' then
    let_go(id, read(id, 'unique')[1])
  end
  add(id)
  if job[4] then
    remember(id, attempt, job[7], job[8])
  end
  call('HSET', JOB .. id, 'state', 'running', 'token', token, 'worker', worker, 'started', now)
  call('ZADD', LEASES, now + lease, id)
  tally(STARTED)
  tally_time(WAITED, now - tonumber(job[11] or job[12] or now))
  emit(id, job[2], 'running', 'attempt', attempt, 'worker', worker)
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
local taken, looked = 0, 0
local most = call('HEXISTS', META, 'paused') == 0 and wanted + 200 or 0
while taken < room and looked < most do
  local popped = call('ZPOPMIN', READY, room - taken)
  if #popped == 0 then
    break
  end
  for i = 1, #popped, 2 do
    taken, looked = taken + begin(popped[i], popped[i + 1]), looked + 1
  end
end

local more, held = call('ZCARD', READY) > 0, ''
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

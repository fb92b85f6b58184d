-- What every script shares; the loader puts what it uses of this between a script's shebang and its body, and what only the
-- part below a line "THE REST" uses there. At the top level stand only functions and `local` lines, each of which may be
-- left out.
--
-- The key map of a channel. All keys begin with KEYS[1], which holds the hash tag {channel}: they are in one slot of a Redis
-- Cluster. KEYS are two beginnings of keys, and no key: a cluster that moves the slot runs no script of two keys that it
-- doesn't find, on neither node. With one, it would run it where only half of the channel has arrived.
--   JOB..id      hash    one job; beside its fields of now, those of the attempts before, the newest HISTORY of them:
--                        worker:<n> (who ran it), error:<n> (what it raised; "" when its worker vanished), first (ms of
--                        the first start). After a success a string "succeeded:<token>" with a TTL (the tombstone), or,
--                        with a result to keep, the hash with its result and a TTL
--   READY        zset    ids by priority, then order of arrival
--   SCHEDULED    zset    ids by due time (ms)
--   LEASES       zset    ids of running jobs by the end of their lease (ms)
--   DEAD         zset    ids of dead letters by the time they died (ms)
--   GROUPS       zset    groups of dead letters, named by what their last attempt raised and their message type, by the time
--                        one of them died last (ms); at most MAX_GROUPS and one for all others
--   GROUPS:<group>  zset  ids of the dead letters of one group by the time they died (ms)
--   FINISHED     zset    ids of cancelled and expired jobs by the time they ended (ms)
--   SUCCEEDED    zset    ids of succeeded jobs that KEEP_SUCCEEDED keeps, by the time they ended (ms)
--   WORKERS      zset    worker ids by the time they were last heard of (ms)
--   META         hash    seq (orders arrivals), tat (theoretical arrival time of the channel's rate, microseconds), held (ms before which
--                        that rate lets no more pass), paused, swept (ms of the last sweep), grace (ms until which none is reaped),
--                        redriven (the last redrive of many, to be repeatable), suspect (id whose turn it is; see promote)
--   BELL         list    at most one element: a hint for a blocking pop that READY holds something
--   NEWER        zset    ids of jobs of a newer format, left for a newer worker, by their order in READY
--   SCHEDULE..name  hash  a schedule: line (when its slots are), since (ms from which on that line counts), mark (the newest
--                        slot decided on, ms), last (the newest that became a job), paused (ms); TTL since a worker looked
--   TOPIC..name  stream  log of a topic, ids <epoch>-<offset>, capped, with a TTL; its key is also the pub/sub channel
--   UNIQUE..name string  id of the job that holds a unique name: lives as long as that job's hold, or has a TTL
--   BATCH..name  string  items of a batch of enqueue_many that are stored; with a TTL since the last one
--   STATS..      what the channel did, see tally
--     total        string  its counters; with a TTL since they last changed
--     minute:<n>   string  the same as they stood when that minute since the epoch began; kept 24 hours
--     hour:<n>     string  when that hour began; kept 30 days. A minute or an hour without a change has none
--     worker:<id>  string  what a worker said of itself with its last sweep; kept until it is taken for gone
--     told:<id>    string  what it was told last, "<ms> <word>"; with a TTL
--   LIMIT..      what limits per key need, in channels that have such limits
--     PARKED       zset  ids of ready jobs that wait for their key instead of in READY, by their order in READY
--     WAITING..key zset  the same jobs by key; one that holds the key already comes first, with score 0
--     HOLDERS..key set   ids of the jobs that count against the key's concurrency
--     RATES        zset  keys by their theoretical arrival time (microseconds); the sweep drops those in the past
--     TURNS        zset  keys with parked jobs by the time (ms) to look at them, should nothing else do so before
--
-- Beside the channels' keys, in a slot of its own:
--   <prefix>:channels  zset  channels that are in use by the time (ms) they were last heard of, capped; see remember.lua
--   <prefix>:alerts    hash  alerts that are raised: when (ms); with a TTL; see alarm.lua
--   <prefix>:turn      string  worker whose turn it is to look for them; with a TTL; see turn.lua
--
-- Times are the server's, in ms. ARGV[1] and ARGV[2] cap a topic: events kept, and ms kept after the last event.
local CHANNEL, JOB = KEYS[1], KEYS[2]
local READY = CHANNEL .. 'ready'
local SCHEDULED = CHANNEL .. 'scheduled'
local LEASES = CHANNEL .. 'leases'
local DEAD = CHANNEL .. 'dead'
local FINISHED = CHANNEL .. 'finished'
local SUCCEEDED = CHANNEL .. 'succeeded'
local WORKERS = CHANNEL .. 'workers'
local META = CHANNEL .. 'meta'
local BELL = CHANNEL .. 'bell'
local TOPIC = CHANNEL .. 'topic:'
local NEWER = CHANNEL .. 'newer'
local UNIQUE = CHANNEL .. 'unique:'
local SCHEDULE = CHANNEL .. 'schedule:'
local BATCH = CHANNEL .. 'batch:'
local STATS = CHANNEL .. 'stats:'
local GROUPS = CHANNEL .. 'groups'
local PARKED = CHANNEL .. 'limit:parked'
local WAITING = CHANNEL .. 'limit:waiting:'
local HOLDERS = CHANNEL .. 'limit:holders:'
local RATES = CHANNEL .. 'limit:rates'
local TURNS = CHANNEL .. 'limit:turns'
local FORMAT = 1 -- of a job's hash; what a job of a higher one means, only newer scripts know
local TURN_MS = 500 -- how soon a suspect that had to wait for another is looked at again
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local cursor = 2
local function take() -- the next argument
  cursor = cursor + 1
  return ARGV[cursor]
end
local function number()
  return tonumber(take())
end

-- Fields of a job; nils when there is none or only a tombstone (a string: HMGET fails on it).
local function read(id, ...)
  local values = redis.pcall('HMGET', JOB .. id, ...)
  if values.err then
    return {}
  end
  return values
end

local function ring()
  if call('EXISTS', BELL) == 0 then
    call('LPUSH', BELL, '1')
  end
end

-- What the channel does is counted in one string of 32-bit numbers, at these places; each counts modulo 2^32. Then come,
-- 64 bits each, the sums of the times (ms) from ready to start and from start to end, and the numbers of these times by
-- length: bucket n holds those from 2^(n-1) to less than 2^n ms, the last one all that are longer.
-- A script tallies what it does and records it in one go: what each minute and hour did is the difference of two copies.
local ENQUEUED, STARTED, DONE, FAILED, RETRIED, SNOOZED, RELEASED, RESCUED, DIED = 0, 1, 2, 3, 4, 5, 6, 7, 8
local CANCELLED, EXPIRED, REDRIVEN, WAITED, RAN = 9, 10, 11, 12, 14
local BUCKETS, MINUTES_MS, HOURS_MS, TOTAL_MS = 24, 24 * 3600000 + 120000, 30 * 86400000 + 7200000, 32 * 86400000
local tallied = {}
local function tally(place, more)
  tallied[place] = (tallied[place] or 0) + (more or 1)
end

local frexp = math.frexp
local function tally_time(place, ms)
  if ms < 0 then
    ms = 0
  end
  local _, bucket = frexp(ms)
  if bucket >= BUCKETS then
    bucket = BUCKETS - 1
  end
  bucket = 16 + (place - WAITED) / 2 * BUCKETS + bucket
  tallied[place] = (tallied[place] or 0) + ms
  tallied[bucket] = (tallied[bucket] or 0) + 1
end

local MINUTE = STATS .. 'minute:' .. math.floor(now / 60000)
-- Change the total: the words of a BITFIELD. When MINUTE begins, it and its hour get a copy of the total as it was.
local function book(begins, ...)
  if begins then
    local total = call('GET', STATS .. 'total') or ''
    call('SET', MINUTE, total, 'PX', MINUTES_MS)
    call('SET', STATS .. 'hour:' .. math.floor(now / 3600000), total, 'NX', 'PX', HOURS_MS)
  end
  call('BITFIELD', STATS .. 'total', ...)
  if begins then
    call('PEXPIRE', STATS .. 'total', TOTAL_MS)
  end
end

-- To be called once, after the last tally.
local function record()
  if next(tallied) == nil then
    return
  end
  local changes, n = {}, 0
  for place, more in pairs(tallied) do
    changes[n + 1], changes[n + 2], changes[n + 3], changes[n + 4] =
      'INCRBY', (place == WAITED or place == RAN) and 'i64' or 'u32', place * 32, more
    n = n + 4
  end
  book(call('EXISTS', MINUTE) == 0, unpack(changes))
end

-- For how long (ms) a job has been waiting that could run: the first ones in line of each priority, those that wait for
-- their key, and, when nobody sweeps, due jobs that nobody promotes and leases that nobody takes back.
local function oldest()
  local since = now
  local function look(ids)
    for _, id in ipairs(ids) do
      local job = read(id, 'due', 'created')
      since = math.min(since, tonumber(job[1] or job[2] or now))
    end
  end
  look(call('ZRANGE', PARKED, 0, 9))
  local from = '-inf'
  for _ = 1, 10 do
    local line = call('ZRANGE', READY, from, '+inf', 'BYSCORE', 'LIMIT', 0, 10)
    look(line)
    if #line < 10 then
      break
    end
    from = string.format('%.0f', (math.floor(call('ZSCORE', READY, line[1]) / 2 ^ 44) + 1) * 2 ^ 44)
  end
  for _, place in ipairs({ SCHEDULED, LEASES }) do
    since = math.min(since, tonumber(call('ZRANGE', place, 0, 0, 'WITHSCORES')[2] or now))
  end
  return math.max(0, now - since)
end

-- See counts.lua.
local function census()
  return {
    call('ZCARD', SCHEDULED), call('ZCARD', READY) + call('ZCARD', PARKED), call('ZCARD', LEASES), call('ZCARD', DEAD),
    call('ZCARD', FINISHED) + call('ZCARD', SUCCEEDED), oldest(), call('ZCARD', SUCCEEDED),
  }
end

-- See workers.lua.
local function live(silence)
  local found = {}
  local heard = call('ZRANGE', WORKERS, now - silence, '+inf', 'BYSCORE', 'LIMIT', 0, 1000, 'WITHSCORES')
  for i = 1, #heard, 2 do
    found[#found + 1] = heard[i]
    found[#found + 1] = now - tonumber(heard[i + 1])
    found[#found + 1] = call('GET', STATS .. 'worker:' .. heard[i]) or ''
    found[#found + 1] = call('GET', STATS .. 'told:' .. heard[i]) or ''
  end
  return found
end

-- Append to the job's topic, if it has one. The rest: field, value, ...
local function append(id, topic, name, ...)
  if not topic or topic == '' then
    return
  end
  local key = TOPIC .. topic
  local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local entry
  if last then
    entry = string.match(last[1], '^%d+') .. '-*'
  else
    entry = string.format('%.0f-1', now) -- a new log: its birth is its epoch
  end
  call('XADD', key, 'MAXLEN', '~', ARGV[1], entry, 'job', id, 'name', name, 'at', now, ...)
end

-- Tell who listens that the topic, if there is one, has grown.
local function announce(topic, name)
  if topic and topic ~= '' then
    call('PEXPIRE', TOPIC .. topic, ARGV[2])
    call('PUBLISH', TOPIC .. topic, name)
  end
end

-- Append to the job's topic, if it has one, and tell who listens. The rest: field, value, ...
local function emit(id, topic, name, ...)
  append(id, topic, name, ...)
  announce(topic, name)
end

-- The fence: what holds the lease is the token, and only it may end the attempt.
--   1 it holds; 0 this very token already ended its attempt (a replayed request); -1 the lease was given away.
-- With 1 come the values of the other fields asked for, the first of them as number 2.
local function fence(id, token, ...)
  local held = redis.pcall('HMGET', JOB .. id, 'token', ...)
  if held[1] == token then
    return 1, held
  elseif held.err then
    return call('GET', JOB .. id) == 'succeeded:' .. token and 0 or -1
  end
  return call('HGET', JOB .. id, 'settled') == token and 0 or -1
end

-- A rate lets `burst` through at once and one more every `interval` microseconds (GCRA). Tokens there are now, and the
-- theoretical arrival time to which a token taken adds an interval, from the one that is stored.
local function tokens(stored, interval, burst)
  -- The least: when the burst was made smaller, or the server's clock set back, nobody waits longer than for a full bucket.
  local tat = math.min(math.max(tonumber(stored or 0), now * 1000), now * 1000 + math.ceil(burst * interval))
  return math.max(0, math.floor(burst - (tat - now * 1000) / interval)), tat
end

-- When (ms) to look for tokens again: once there are those of a tenth of a second, as far as the burst allows.
local function refill(tat, interval, burst)
  local several = math.min(burst, math.ceil(100000 / interval))
  return math.ceil((tat - (burst - several) * interval) / 1000)
end

-- The first job that waits for the key goes back to READY, to be looked at again.
local quiet = false -- no need to ring: this script looks at READY itself
local function hand_on(key)
  local first = call('ZPOPMIN', WAITING .. key)[1]
  if first then
    local order = call('ZSCORE', PARKED, first)
    call('ZREM', PARKED, first)
    if order then
      call('ZADD', READY, order, first)
      if not quiet then
        ring()
      end
    end
  end
end

-- It is time to look at a key: jobs that are gone hold it no more, and the first one that waits is looked at again.
local function turn(key)
  for _, id in ipairs(call('SRANDMEMBER', HOLDERS .. key, 10)) do
    if not read(id, 'holds')[1] then
      call('SREM', HOLDERS .. key, id)
    end
  end
  hand_on(key)
  if call('EXISTS', WAITING .. key) == 1 then
    call('ZADD', TURNS, now + 60000, key)
  else
    call('ZREM', TURNS, key)
  end
end

-- The job's attempt no longer counts against its key; a job that holds its key until it has ended goes on holding it.
local function release_key(id)
  local job = read(id, 'holds', 'key')
  if job[1] == 'attempt' then
    call('HDEL', JOB .. id, 'holds')
    call('SREM', HOLDERS .. job[2], id)
    hand_on(job[2])
  end
end

-- Take the job out of its attempt. The caller sets the state and puts it where it belongs.
local function unlease(id, token)
  call('ZREM', LEASES, id)
  call('HSET', JOB .. id, 'token', '', 'settled', token)
  release_key(id)
end

-- The attempt that ends took from its start until now.
local function ran(id)
  tally_time(RAN, now - tonumber(read(id, 'started')[1] or now))
end

-- Take a job that is scheduled or ready out of its place.
local function unqueue(id)
  call('ZREM', SCHEDULED, id)
  call('ZREM', READY, id)
  call('ZREM', NEWER, id)
  if call('ZREM', PARKED, id) == 1 then
    call('ZREM', WAITING .. read(id, 'key')[1], id)
  end
end

-- Its due time is from now on since when it has been ready; promote leaves the one that has come.
local function make_ready(id, topic, order, due)
  call('HSET', JOB .. id, 'state', 'ready', 'due', due or now)
  call('ZADD', READY, order, id)
  emit(id, topic, 'ready')
end

-- The job that holds a unique name, nil when it is free. One that is gone or has ended holds nothing, unless for a time.
local function holder(name)
  local id = call('GET', UNIQUE .. name)
  if id then
    local state = read(id, 'state')[1]
    if state == 'scheduled' or state == 'ready' or state == 'running' or call('PTTL', UNIQUE .. name) > 0 then
      return id
    end
  end
end

local function let_go(id, name)
  if call('GET', UNIQUE .. name) == id then
    call('DEL', UNIQUE .. name)
  end
end

-- The job has ended: what it held is free. A unique name that is held for a time stays.
local function ended(id)
  local job = read(id, 'unique', 'unique_until', 'key', 'holds')
  if job[1] and job[2] ~= 'time' then
    let_go(id, job[1])
  end
  if job[4] then
    call('HDEL', JOB .. id, 'holds')
    call('SREM', HOLDERS .. job[3], id)
  end
  if job[3] then
    hand_on(job[3]) -- also when it held nothing: it may have been its turn
  end
end

-- Take a dead letter's unique name again. Returns the job that holds it meanwhile, if one does.
local function retake(id)
  local job = read(id, 'unique', 'unique_until')
  if job[1] and job[2] ~= 'time' then
    local other = holder(job[1])
    if other and other ~= id then
      return other
    end
    call('SET', UNIQUE .. job[1], id)
  end
end

-- Delete the job; the caller takes it out of its place.
local function forget(id)
  local name = read(id, 'unique')[1]
  if name then
    let_go(id, name)
  end
  call('DEL', JOB .. id)
end

local HISTORY = 20
-- Keep what an attempt raised.
local function blame(id, attempt, trace)
  call('HSET', JOB .. id, 'error:' .. attempt, trace)
end

-- A new attempt: what is known of the one before becomes history. The first attempt of a job has none to write.
local function remember(id, attempt, worker, started)
  call('HSET', JOB .. id, 'worker:' .. attempt - 1, worker)
  if attempt == 2 then
    call('HSET', JOB .. id, 'first', started)
  elseif attempt > HISTORY then
    call('HDEL', JOB .. id, 'worker:' .. attempt - HISTORY, 'error:' .. attempt - HISTORY)
  end
end

-- The class of what an attempt raised, of its error text "Class: message".
local function class_of(error)
  return string.match(error, '^([%w_%.<>]+):') or 'Quarantined'
end

local MAX_GROUPS = 500
-- Put a dead letter into its group: it is found there, and counted, without a look at all the others.
local function gather(id, class, name)
  local group = string.sub(class, 1, 200) .. ' ' .. string.sub(name or '', 1, 200)
  if not call('ZSCORE', GROUPS, group) and call('ZCARD', GROUPS) >= MAX_GROUPS then
    group = '... '
  end
  call('HSET', JOB .. id, 'group', group)
  call('ZADD', GROUPS, now, group)
  call('ZADD', GROUPS .. ':' .. group, now, id)
end

-- The job is no dead letter any more.
local function exhume(id)
  call('ZREM', DEAD, id)
  local group = read(id, 'group')[1]
  if group then
    call('HDEL', JOB .. id, 'group')
    call('ZREM', GROUPS .. ':' .. group, id)
    if call('EXISTS', GROUPS .. ':' .. group) == 0 then
      call('ZREM', GROUPS, group)
    end
  end
end

-- A dead letter may run again, its failures counted anew: at once or, with a pace (ms), at `due`. Returns its state and
-- when the next one is due.
local function revive(id, topic, order, pace, due)
  exhume(id)
  call('HDEL', JOB .. id, 'failures', 'rescues', 'apart', 'reason', 'finished', 'cancel')
  if not pace then
    make_ready(id, topic, order)
    return 'ready', due
  end
  local time = string.format('%.0f', due)
  call('HSET', JOB .. id, 'state', 'scheduled', 'due', time)
  call('ZADD', SCHEDULED, time, id)
  emit(id, topic, 'scheduled', 'due', time)
  return 'scheduled', due + pace
end

local function bury(id, topic, attempt, reason, error, class, name)
  call('HSET', JOB .. id, 'state', 'dead', 'finished', now, 'reason', reason)
  call('ZADD', DEAD, now, id)
  tally(DIED)
  gather(id, class, name)
  ended(id)
  emit(id, topic, 'dead', 'attempt', attempt, 'reason', reason, 'error', error)
end

local function finish(id, topic, state, reason)
  call('HSET', JOB .. id, 'state', state, 'finished', now, 'reason', reason)
  call('ZADD', FINISHED, now, id)
  tally(state == 'expired' and EXPIRED or CANCELLED)
  ended(id)
  emit(id, topic, state, 'reason', reason)
end

-- Room for `count` new jobs in the order of arrival. Returns the first one's place.
local function arrive(count)
  return call('HINCRBY', META, 'seq', count) - count + 1
end

-- Store a new job without options, whose id is unknown, at that place in the order of arrival. Returns its order in READY,
-- where the caller puts it, rings, and counts it.
local function create(id, payload, arrival)
  -- 100 - priority in the high bits and the order of arrival in the low 44: exact in a double.
  local order = 100 * 2 ^ 44 + arrival
  call('HSET', JOB .. id, 'v', FORMAT, 'state', 'ready', 'payload', payload, 'order', order, 'created', now)
  return order
end

-- The same with `options`: priority, delay (ms) or run_at (ms), expires (ms from now), topic, policy, key, unique (a free
-- name) and hold (nil until it ends, "started", or ms). Returns its order in READY, and the time (ms) when it is due, nil
-- when it is ready. The caller puts it there or in SCHEDULED, rings when it is ready, and counts it.
local function create_with(options, id, payload, arrival)
  local priority, due = options.priority or 0, options.run_at or now + (options.delay or 0)
  local order = (100 - priority) * 2 ^ 44 + arrival
  local fields = { 'v', FORMAT, 'state', due > now and 'scheduled' or 'ready', 'payload', payload, 'order', order, 'created', now }
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if priority ~= 0 then
    set('priority', priority)
  end
  if options.expires then
    set('expires', now + options.expires)
  end
  for _, name in ipairs({ 'topic', 'policy', 'key', 'unique' }) do
    if options[name] then
      set(name, options[name])
    end
  end
  if options.unique then
    call('SET', UNIQUE .. options.unique, id)
    if options.hold == 'started' then
      set('unique_until', 'started')
    elseif options.hold then
      set('unique_until', 'time')
      call('PEXPIRE', UNIQUE .. options.unique, options.hold)
    end
  end
  if due > now then
    set('due', due)
    call('HSET', JOB .. id, unpack(fields))
    emit(id, options.topic, 'scheduled', 'due', due)
    return order, due
  end
  call('HSET', JOB .. id, unpack(fields))
  emit(id, options.topic, 'ready')
  return order
end

-- Suspects (rescued so often that the next time may be the last) run apart: one of them at a time is ready or running, so
-- that the one that kills its workers can't take the others along once more.
local function has_turn(id)
  local other = call('HGET', META, 'suspect')
  if other and other ~= id and (call('ZSCORE', LEASES, other) or call('ZSCORE', READY, other)) then
    return false
  end
  call('HSET', META, 'suspect', id)
  return true
end

-- Move due jobs to READY, at most `limit`. Returns how many.
local function promote(limit)
  local due = call('ZRANGE', SCHEDULED, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)
  local gone, ready, count = {}, {}, 0
  for _, id in ipairs(due) do
    local job = read(id, 'order', 'topic', 'apart', 'due')
    if job[3] and not has_turn(id) then
      call('ZADD', SCHEDULED, now + TURN_MS, id) -- looked at again then; its due time stays, it tells who waits longest
    else
      gone[#gone + 1] = id
      if job[3] then
        make_ready(id, job[2], job[1], job[4]) -- now: the next suspect asks whether it is there
        count = count + 1
      elseif job[1] then
        call('HSET', JOB .. id, 'state', 'ready')
        ready[#ready + 1], ready[#ready + 2] = job[1], id
        emit(id, job[2], 'ready')
        count = count + 1
      end
    end
  end
  if #gone > 0 then
    call('ZREM', SCHEDULED, unpack(gone))
  end
  if #ready > 0 then
    call('ZADD', READY, unpack(ready))
  end
  return count
end

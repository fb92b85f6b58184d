#!lua
-- Look at schedules, and turn their due slots into jobs. Every worker of the channel asks, there is no leader: what
-- makes each slot one job is that its time lies above the schedule's mark, the newest slot that was decided on.
-- No allow-oom: a full server refuses it before its first write, as enqueue, and the slot is asked for again.
--
-- ARGV  3 ms that a schedule's state is kept after the last worker that looked; 4 number of schedules; then for each
--       name; line that says when its slots are, "" unless this worker looks for the first time; number of slots,
--       rising; then for each slot
--       time (ms), latest time (ms) or "", job id, payload, priority, time to run at (ms), policy or ""
-- Returns  {now, {for each schedule {since, mark or "", 1 when paused, number of jobs made, number of slots missed}}}
--          since: ms from which on its line counts: none of its slots up to then is ever made
-- A crash before it: the next worker that looks asks for the same slots. After it, reply lost: a repeat finds the mark.
local keep, count = take(), number()
local results, ready = {}, false
for i = 1, count do
  local name, line = take(), take()
  local key = SCHEDULE .. name
  local state = call('HMGET', key, 'line', 'since', 'mark', 'paused')
  local since, mark, paused = state[2], tonumber(state[3] or 0), state[4]
  if not since or (line ~= '' and line ~= state[1]) then
    since = string.format('%.0f', now)
    call('HSET', key, 'line', line, 'since', since)
  end
  local made, missed = 0, 0
  for _ = 1, number() do
    local slot, latest, id, payload = number(), tonumber(take()), take(), take()
    local priority, due, policy = number(), number(), take()
    if slot > mark and slot <= now then
      mark = slot
      if latest and now > latest then
        missed = missed + 1
      elseif not paused and call('EXISTS', JOB .. id) == 0 then
        made = made + 1
        local job = { priority = priority, run_at = math.max(due, slot), policy = policy ~= '' and policy }
        local order, later = create_with(job, id, payload, arrive(1))
        tally(ENQUEUED)
        call('ZADD', later and SCHEDULED or READY, later or order, id)
        ready = ready or not later
        call('HSET', key, 'last', string.format('%.0f', slot))
      end
    end
  end
  if mark > 0 then
    call('HSET', key, 'mark', string.format('%.0f', mark))
  end
  call('PEXPIRE', key, keep)
  results[i] = { since, mark > 0 and string.format('%.0f', mark) or '', paused and 1 or 0, made, missed }
end
record()
if ready then
  ring()
end
return { string.format('%.0f', now), results }

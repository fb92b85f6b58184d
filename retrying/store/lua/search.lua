#!lua flags=no-writes
-- List jobs of one state that match: those that came last first, a page at a time, from the state's sorted sets. Ready jobs
-- that wait for their key are in one of their own; of dead letters only the groups that can match are looked at.
--
-- ARGV  3 state; 4 score and 5 id of the last job seen, both "" for the first page; 6 jobs wanted; 7 jobs to look at, at
--       most; 8 bytes of payloads after which the page ends, "" when none are wanted, "-" when no field is wanted but the
--       state; what to look for, each "" for any:
--       9 key; 10 class of the last error; 11 message type (of dead letters: of the others the caller looks for it);
--       12 least and 13 most age (ms): since its end or, of those that haven't ended, since it was enqueued
-- Returns  {score and id of the last job looked at, both "" at the end; jobs looked at; {for each job {id, name, value, ...}}}
--          Fewer jobs than wanted may come with a position: the page looked at as many as it may.
local state, score, after, wanted, looks, details = take(), take(), take(), number(), number(), take()
local room = tonumber(details)
local key, class, name, least, most = take(), take(), take(), tonumber(take()), tonumber(take())
local CHUNK, MAX_PLACES = 25, 8
local FIELDS = {
  'state', 'attempt', 'failures', 'rescues', 'releases', 'max_retries', 'priority', 'created', 'due', 'started',
  'finished', 'worker', 'error', 'reason', 'topic', 'cancel', 'unique', 'key',
}
if details == '-' then
  FIELDS = { 'state' }
elseif room then
  FIELDS[#FIELDS + 1] = 'payload'
end
local ENDED = { dead = true, cancelled = true, expired = true, succeeded = true } -- their scores are when they ended

-- Dead letters in the groups that can match; in DEAD when there are too many of those.
local function dead_places()
  if class == '' and name == '' then
    return { DEAD }
  end
  local places = {}
  for _, group in ipairs(call('ZRANGE', GROUPS, 0, -1)) do
    local its_class, its_name = string.match(group, '^(%S+) (.*)$')
    local other = its_class == '...'
    if (class == '' or its_class == class or other) and (name == '' or its_name == name or its_name == '') then
      places[#places + 1] = GROUPS .. ':' .. group
    end
  end
  return #places > MAX_PLACES and { DEAD } or places
end

local function less(a, b) -- bytewise, as sorted sets order equal scores; Lua's own < asks the locale
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

-- The rank to go on from. The job last seen may be gone, so its place is searched for: among equal scores by id.
local function rank_in(place)
  local rank = 0
  if score ~= '' then
    rank = call('ZCOUNT', place, '(' .. score, '+inf')
    local last = rank + call('ZCOUNT', place, score, score)
    while rank < last do
      local middle = math.floor((rank + last) / 2)
      if less(call('ZRANGE', place, middle, middle, 'REV')[1], after) then
        last = middle
      else
        rank = middle + 1
      end
    end
  end
  return rank
end

if ENDED[state] and least and (score == '' or tonumber(score) > now - least) then
  score, after = string.format('%.0f', now - least + 1), '' -- younger ones are passed over at once
end
local places = state == 'dead' and dead_places() or ({
  scheduled = { SCHEDULED }, ready = { READY, PARKED }, running = { LEASES }, cancelled = { FINISHED },
  expired = { FINISHED }, succeeded = { SUCCEEDED },
})[state]
local pages = {} -- of each place the members that come next: {member, score, ...}, and how far they were read
for i, place in ipairs(places) do
  pages[i] = { place = place, rank = rank_in(place), members = {}, at = 1 }
end

-- The page whose next member comes first; nil at the end of all.
local function next_page()
  local best, its
  for _, page in ipairs(pages) do
    if page.at > #page.members and not page.over then
      page.members = call('ZRANGE', page.place, page.rank, page.rank + CHUNK - 1, 'REV', 'WITHSCORES')
      page.rank, page.at, page.over = page.rank + CHUNK, 1, #page.members < 2 * CHUNK
    end
    local member, other = page.members[page.at], tonumber(page.members[page.at + 1])
    if member and (not best or other > its or (other == its and less(best.members[best.at], member))) then
      best, its = page, other
    end
  end
  return best
end

local function class_of_job(group, error)
  local its = group and string.match(group, '^(%S+) ')
  return its and its ~= '...' and its or class_of(error or '')
end

local aged = not ENDED[state] and (least or most)
local function matches(id)
  if key == '' and class == '' and not aged then
    return true
  end
  local job = read(id, 'key', 'group', 'error', 'created')
  local age = now - tonumber(job[4] or now)
  return (key == '' or job[1] == key)
    and (class == '' or class_of_job(job[2], job[3]) == class)
    and (not aged or (age >= (least or age) and age <= (most or age)))
end

local jobs, looked = {}, 0
local page = next_page()
while page do
  if #jobs == wanted or looked == looks or (room and room <= 0) then
    return { score, after, looked, jobs }
  end
  local member, its = page.members[page.at], page.members[page.at + 1]
  if ENDED[state] and most and tonumber(its) < now - most then
    break
  end
  score, after, looked = its, member, looked + 1
  page.at = page.at + 2
  local values = matches(member) and read(member, unpack(FIELDS)) or {}
  if values[1] == state then
    local job = { member, 'score', its }
    if page.place == PARKED then
      job[4], job[5] = 'parked', '1'
    end
    for j, field in ipairs(FIELDS) do
      if values[j] then
        job[#job + 1] = field
        job[#job + 1] = values[j]
      end
    end
    if room then
      room = room - #(values[#FIELDS] or '')
    end
    jobs[#jobs + 1] = job
  end
  page = next_page()
end
return { '', '', looked, jobs }

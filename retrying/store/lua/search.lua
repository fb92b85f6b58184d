#!lua flags=no-writes
-- List jobs of one state: those that came last first, a page at a time, from the state's sorted sets: ready jobs that
-- wait for their key are in one of their own.
--
-- ARGV  3 state; 4 score and 5 id of the last job seen, both "" for the first page; 6 jobs wanted
-- Returns  {score and id of the last job looked at, both "" at the end, {for each job {id, name, value, ...}}}
--          Fewer jobs than wanted may come with a position: cancelled and expired jobs share a set, and a page looks at
--          a bounded number of its members.
local state, score, after, wanted = take(), take(), take(), number()
local LOOK = 1000
local FIELDS = {
  'state', 'attempt', 'failures', 'rescues', 'releases', 'max_retries', 'priority', 'created', 'due', 'started',
  'finished', 'worker', 'error', 'reason', 'topic', 'cancel', 'unique', 'key',
}
local places = ({
  scheduled = { SCHEDULED }, ready = { READY, PARKED }, running = { LEASES }, dead = { DEAD }, cancelled = { FINISHED },
  expired = { FINISHED }, succeeded = { SUCCEEDED },
})[state]

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
local function rank_in(key)
  local rank = 0
  if score ~= '' then
    rank = call('ZCOUNT', key, '(' .. score, '+inf')
    local last = rank + call('ZCOUNT', key, score, score)
    while rank < last do
      local middle = math.floor((rank + last) / 2)
      if less(call('ZRANGE', key, middle, middle, 'REV')[1], after) then
        last = middle
      else
        rank = middle + 1
      end
    end
  end
  return rank
end

-- The next members of each place, as they come: {member, score, ...} and how far they were read.
local pages = {}
for i, key in ipairs(places) do
  local rank = rank_in(key)
  pages[i] = { members = call('ZRANGE', key, rank, rank + LOOK - 1, 'REV', 'WITHSCORES'), at = 1 }
end

-- The page whose next member comes first; nil at the end of all, and when what comes next was not read.
local function next_page()
  local best
  for _, page in ipairs(pages) do
    local member, its = page.members[page.at], tonumber(page.members[page.at + 1])
    if member then
      local other = best and tonumber(best.members[best.at + 1])
      if not best or its > other or (its == other and less(best.members[best.at], member)) then
        best = page
      end
    elseif #page.members == 2 * LOOK then
      return nil
    end
  end
  return best
end

local jobs = {}
local page = next_page()
while page do
  if #jobs == wanted then
    return { score, after, jobs }
  end
  after, score = page.members[page.at], page.members[page.at + 1]
  page.at = page.at + 2
  local values = read(after, unpack(FIELDS))
  if values[1] == state then
    local job = { after }
    for j, name in ipairs(FIELDS) do
      if values[j] then
        job[#job + 1] = name
        job[#job + 1] = values[j]
      end
    end
    if page == pages[2] then
      job[#job + 1] = 'parked'
      job[#job + 1] = '1'
    end
    jobs[#jobs + 1] = job
  end
  page = next_page()
end
for _, rest in ipairs(pages) do
  if #rest.members == 2 * LOOK then
    return { score, after, jobs }
  end
end
return { '', '', jobs }

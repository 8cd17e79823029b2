-- The ledger's decisions inside the store: what checks.py and decide.py say, in the store's language.
--
-- ARGV[1] is what to do, ARGV[2] a JSON object. All keys are in KEYS, and all are in one slot:
--   KEYS[1] meta     hash: born, swept (moments), revoked (a serial number)
--   KEYS[2] holders  sorted set: workers, each with the moment up to which it is taken for alive
--   KEYS[3] calls    hash: the asking worker's calls under way; request id -> starts of windows
--   KEYS[4] revoked  hash: "app\nuser\nsignature" -> "before until"
--   KEYS[5...]       what the input names by position: accounts and figures
--
-- An account is a hash, and its fields are those of its checks:
--   requests               the moment at which all is paid off (GCRA)
--   places/HOLDER          how many places a worker holds
--   tokens/day             "start end used" of a window; /hour, /minute, /month, /life alike
--   tokens/day/HOLDER      how many tokens a worker holds
--   uses                   how many calls were begun
--   expires                the moment from when on all of it is as good as forgotten
--
-- Moments are whole microseconds; a Lua number holds them exactly, but only %.0f writes them so.
-- The clock is the server's, unless the input brings one: tests do.

local META, HOLDERS, CALLS, REVOKED = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local MICROS = 1000000
local LEASE = 30 * MICROS
local HELD_SECONDS = 31 * 86400
local KEPT_SECONDS = 400 * 86400
local NODE_SECONDS = 3600
local MARGIN = 60 * MICROS
local SOON = MICROS
local NEVER = -1

local function whole(number) return string.format('%.0f', number) end

local input = cjson.decode(ARGV[2])
local now, ticks = input.now, input.ticks
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * MICROS + tonumber(time[2])
  ticks = now
end
local holder = input.holder

-- Who lives ---------------------------------------------------------------------------------------

local known = {}
local function alive(name)
  if name == holder then return true end
  if known[name] == nil then
    local until_ = redis.call('ZSCORE', HOLDERS, name)
    known[name] = until_ and tonumber(until_) > ticks or false
  end
  return known[name]
end

local function renew()
  redis.call('ZADD', HOLDERS, whole(ticks + LEASE), holder)
  redis.call('EXPIRE', CALLS, HELD_SECONDS)
end

-- Windows, in UTC ---------------------------------------------------------------------------------

local LENGTHS = {minute = 60 * MICROS, hour = 3600 * MICROS, day = 86400 * MICROS}
local FOREVER = 2 ^ 62

-- The days since 1970 of a year's month's first; the year may begin in March (H. Hinnant's way).
local function first_of(year, month)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * ((month + 9) % 12) + 2) / 5)
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100)
    + of_year - 719468
end

local function month_of(moment)
  local days = math.floor(moment / LENGTHS.day) + 719468
  local era = math.floor(days / 146097)
  local of_era = days - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  year = year + era * 400
  month = month < 10 and month + 3 or month - 9
  if month <= 2 then year = year + 1 end
  return year, month
end

local function window(period)
  if period == 'life' then return 0, FOREVER end
  if period == 'month' then
    local year, month = month_of(now)
    local next_year, next_month = year, month + 1
    if next_month == 13 then next_year, next_month = year + 1, 1 end
    return first_of(year, month) * LENGTHS.day, first_of(next_year, next_month) * LENGTHS.day
  end
  local start = now - now % LENGTHS[period]
  return start, start + LENGTHS[period]
end

-- An account --------------------------------------------------------------------------------------

local function read(key)
  local flat, state = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do state[flat[i]] = flat[i + 1] end
  return state
end

-- What the living hold under a check's name, and the fields of the dead.
local function held(state, name)
  local sum, dead, prefix = 0, {}, name .. '/'
  for field, value in pairs(state) do
    if string.sub(field, 1, #prefix) == prefix then
      local who = string.sub(field, #prefix + 1)
      if not string.find(who, '/', 1, true) then
        if alive(who) then sum = sum + tonumber(value) else dead[#dead + 1] = field end
      end
    end
  end
  return sum, dead
end

local function holds_of_living(state)
  for field in pairs(state) do
    local who = string.match(field, '^places/([^/]+)$') or string.match(field, '^tokens/%l+/([^/]+)$')
    if who and alive(who) then return true end
  end
  return false
end

local function current(account)
  local state = read(account.key)
  local expires = tonumber(state.expires or '0')
  if next(state) and now >= expires + MARGIN and not holds_of_living(state) then
    if account.kind ~= 'url' then
      redis.call('DEL', account.key)
      return {}
    end
  end
  return state
end

local function release(state, changes, field, less)
  local remaining = tonumber(state[field] or '0') - less
  changes[field] = remaining > 0 and whole(remaining) or false
end

local CHECKS = {}

CHECKS.rate = {
  take = function(check, state, changes)
    local paid = tonumber(state[check.name] or '0')
    if paid <= now then paid = now else paid = math.min(paid, now + check.most) end
    local wait = paid - now + check.interval - check.most
    if wait > 0 then
      local left = check.burst + math.floor((now - paid) / check.interval)
      if tonumber(state[check.name] or '0') ~= paid then changes.mended[check.name] = whole(paid) end
      return wait, left
    end
    changes[check.name] = whole(paid + check.interval)
    return 0
  end,
  settle = function(check, state, changes, ended)
    if ended.returned and state[check.name] then
      changes[check.name] = whole(tonumber(state[check.name]) - check.interval)
    end
  end,
  until_ = function(_, value) return tonumber(value) end,
}

CHECKS.places = {
  take = function(check, state, changes)
    local sum, dead = held(state, check.name)
    if sum >= check.count then return SOON, math.max(0, check.count - sum) end
    for _, field in ipairs(dead) do changes[field] = false end
    local field = check.name .. '/' .. holder
    changes[field] = whole(tonumber(state[field] or '0') + 1)
    return 0
  end,
  settle = function(check, state, changes, ended)
    release(state, changes, check.name .. '/' .. ended.holder, 1)
  end,
}

local function window_of(check, state)
  local value = state[check.name]
  local start, finish, used
  if value then
    start, finish, used = string.match(value, '^(%S+) (%S+) (%S+)$')
    start, finish, used = tonumber(start), tonumber(finish), tonumber(used)
  end
  if not value or now >= finish then
    start, finish = window(check.period)
    return start, finish, 0, true
  end
  if now < start then
    local _, last = window(check.period)
    if last < start then finish = last end
  end
  return start, finish, used, false
end

CHECKS.budget = {
  take = function(check, state, changes)
    local start, finish, used, fresh = window_of(check, state)
    local sum, dead = held(state, check.name)
    if fresh then
      -- What was held in another window is settled there, or nowhere.
      local prefix = check.name .. '/'
      for field in pairs(state) do
        if string.sub(field, 1, #prefix) == prefix then
          state[field] = nil
          changes[field] = false
        end
      end
      sum, dead = 0, {}
    end
    local text = whole(start) .. ' ' .. whole(finish) .. ' ' .. whole(used)
    if used >= check.count or used + sum + input.tokens > check.count then
      if not fresh and state[check.name] ~= text then changes.mended[check.name] = text end
      local left = math.max(0, check.count - used - sum)
      if check.period == 'life' or input.tokens > check.count then return NEVER, left end
      return finish - now, left
    end
    for _, field in ipairs(dead) do changes[field] = false end
    changes[check.name] = text
    local field = check.name .. '/' .. holder
    changes[field] = whole(tonumber(state[field] or '0') + input.tokens)
    changes.starts[check.name] = whole(start)
    return 0
  end,
  settle = function(check, state, changes, ended, starts)
    local value = state[check.name]
    if not value then return end
    local start, finish, used = string.match(value, '^(%S+) (%S+) (%S+)$')
    if start ~= starts[check.name] then return end
    local tokens = ended.tokens
    local spent = ended.returned and 0 or (ended.used or tokens)
    changes[check.name] = start .. ' ' .. finish .. ' ' .. whole(tonumber(used) + spent)
    release(state, changes, check.name .. '/' .. ended.holder, tokens)
  end,
  until_ = function(check, value)
    return check.period ~= 'life' and tonumber(string.match(value, '^%S+ (%S+)')) or 0
  end,
}

CHECKS.uses = {
  take = function(check, state, changes)
    local used = tonumber(state[check.name] or '0')
    if used >= check.count then return NEVER, 0 end
    changes[check.name] = whole(used + 1)
    return 0
  end,
  settle = function(check, state, changes, ended)
    if ended.returned and tonumber(state[check.name] or '0') > 0 then
      changes[check.name] = whole(tonumber(state[check.name]) - 1)
    end
  end,
}

local function write(account, state, changes)
  local put, gone = {}, {}
  for field, value in pairs(changes) do
    state[field] = value or nil
    if value then
      put[#put + 1] = field
      put[#put + 1] = value
    else
      gone[#gone + 1] = field
    end
  end
  local latest = math.max(account.expires, tonumber(state.expires or '0'))
  for _, check in ipairs(account.checks) do
    local until_ = CHECKS[check.kind].until_
    if until_ and state[check.name] then
      latest = math.max(latest, until_(check, state[check.name]))
    end
  end
  put[#put + 1] = 'expires'
  put[#put + 1] = whole(latest)
  if #gone > 0 then redis.call('HDEL', account.key, unpack(gone)) end
  redis.call('HSET', account.key, unpack(put))
  local seconds = math.ceil((latest - now + MARGIN) / MICROS)
  if holds_of_living(state) then seconds = math.max(seconds, HELD_SECONDS) end
  redis.call('EXPIRE', account.key, whole(math.max(seconds, 1)))
end

-- What can be asked -------------------------------------------------------------------------------

local function named(accounts)
  for _, account in ipairs(accounts) do account.key = KEYS[account.at] end
  return accounts
end

local function meta()
  local found = redis.call('HMGET', META, 'born', 'swept', 'revoked')
  if not found[1] then
    -- A store that has been emptied knows of no URL whether it has been used.
    redis.call('HSET', META, 'born', whole(now))
    found[1] = whole(now)
  end
  return tonumber(found[1]), tonumber(found[2] or '0'), found[3] or '0'
end

local function lost(account, state, born, swept)
  if account.kind ~= 'url' then return false end
  return account.signed < born or (not next(state) and account.expires + MARGIN <= math.max(now, swept))
end

local function admit()
  if input.deadline and now > input.deadline then return {whole(now), 'late'} end
  local born, swept = meta()
  local accounts = named(input.accounts)
  local worst, all, states = nil, {starts = {}}, {}
  for i, account in ipairs(accounts) do
    local state = current(account)
    if lost(account, state, born, swept) then return {whole(now), 'lost'} end
    local changes, mended = {}, {}
    all[i], states[i] = {changes = changes, mended = mended}, state
    for j, check in ipairs(account.checks) do
      local sink = setmetatable({}, {
        __index = {mended = mended, starts = all.starts}, __newindex = changes})
      local wait, left = CHECKS[check.kind].take(check, state, sink)
      if wait ~= 0 and (not worst or (worst.wait ~= NEVER and (wait == NEVER or wait > worst.wait))) then
        worst = {account = i, check = j, wait = wait, left = left}
      end
    end
  end
  if worst then
    for i, account in ipairs(accounts) do
      if next(all[i].mended) then write(account, states[i], all[i].mended) end
    end
    return {whole(now), 'refused', worst.account, worst.check, whole(worst.wait), whole(worst.left)}
  end
  for i, account in ipairs(accounts) do write(account, states[i], all[i].changes) end
  redis.call('HSET', CALLS, input.id, cjson.encode(all.starts))
  local score = redis.call('ZSCORE', HOLDERS, holder)
  if not score or tonumber(score) < ticks + LEASE / 2 then renew() end
  return {whole(now), 'taken'}
end

local function settle(ended)
  local calls = KEYS[ended.calls]
  local starts = redis.call('HGET', calls, ended.id)
  if not starts then return end
  redis.call('HDEL', calls, ended.id)
  starts = cjson.decode(starts)
  for _, account in ipairs(named(ended.accounts)) do
    local state, changes = read(account.key), {}
    if next(state) then
      for _, check in ipairs(account.checks) do
        CHECKS[check.kind].settle(check, state, changes, ended, starts)
      end
      if next(changes) then write(account, state, changes) end
    end
  end
end

local function revoke(each)
  local field = each.app .. '\n' .. each.user .. '\n' .. each.signature
  local before, until_ = each.before, each['until']
  local old = redis.call('HGET', REVOKED, field)
  if old then
    local a, b = string.match(old, '^(%S+) (%S+)$')
    before, until_ = math.max(before, tonumber(a)), math.max(until_, tonumber(b))
  end
  redis.call('HSET', REVOKED, field, whole(before) .. ' ' .. whole(until_))
  redis.call('HINCRBY', META, 'revoked', 1)
end

-- Figures come in numbered batches, sent again until they are confirmed; the last number is kept.
local function note_figures()
  local node = KEYS[input.node]
  redis.call('ZADD', HOLDERS, whole(ticks + LEASE), input.name)
  if redis.call('HGET', node, 'batch') ~= input.batch then
    for _, sum in ipairs(input.used) do
      local key = KEYS[sum.at]
      for field, more in pairs(sum.more) do
        redis.call('HINCRBY', key, sum.name .. '\n' .. field, whole(more))
      end
      redis.call('EXPIRE', key, KEPT_SECONDS)
    end
    redis.call('HSET', node, 'batch', input.batch)
  end
  for name, count in pairs(input.streams) do
    if count == 0 then redis.call('HDEL', node, name)
    else redis.call('HSET', node, name, whole(count)) end
  end
  redis.call('EXPIRE', node, NODE_SECONDS)
end

-- Everything but decisions: what has ended, what was used, who lives, what is revoked.
local function turn()
  local born, swept = meta()
  for _, ended in ipairs(input.ended) do settle(ended) end
  renew()
  note_figures()
  if input.revoke then revoke(input.revoke) end
  if now > swept + MICROS then
    redis.call('HSET', META, 'swept', whole(now))
    redis.call('ZREMRANGEBYSCORE', HOLDERS, '-inf', whole(ticks - LEASE))
  end
  -- Which store it is, too: one that was emptied counts its revocations from the first one.
  local serial = whole(born) .. '/' .. (redis.call('HGET', META, 'revoked') or '0')
  local revoked = {}
  if serial ~= input.revoked then
    local flat = redis.call('HGETALL', REVOKED)
    for i = 1, #flat, 2 do
      if tonumber(string.match(flat[i + 1], '^%S+ (%S+)$')) < now then
        redis.call('HDEL', REVOKED, flat[i])
      else
        revoked[#revoked + 1] = flat[i]
        revoked[#revoked + 1] = flat[i + 1]
      end
    end
  end
  return {whole(now), serial, revoked}
end

if ARGV[1] == 'admit' then return admit() end
return turn()

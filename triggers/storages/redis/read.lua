-- Read the part of a session that a decision must see, together with its revision.
--
-- ARGV[1]  the present in microseconds; empty: the server's
-- ARGV[2]  the digest of the configuration that the question is about
-- ARGV[3]  the revision that it is about; empty: any
-- ARGV[4]  what is asked less often, as JSON: every key of it is one of the steps below; or empty
-- ARGV[5]  how many fields of the head are to be read
-- ARGV[6]  and all that follow: these, and names whose waiting instances are to be read
--
-- The answer has a NUL between its parts: the present; the head, 'answered', and the fields that
-- were asked for, each empty where there is none; how many instances wait for each of the names,
-- and which; names and texts of all instances that were found, after their number; and the rest as
-- JSON. If the session's configuration or revision is not the one that the question is about, there
-- is only the head.

local rev, wanted = ARGV[3], tonumber(ARGV[5])
local fields = redis.call('HMGET', head, 'rev', 'version', 'phase', 'seq', 'clock', 'digest',
    'manager', unpack(ARGV, 6, 5 + math.min(wanted, 1000)))
local now = present(ARGV[1], fields[5])
local answer = {now}
for index = 1, 7 do
    answer[index + 1] = fields[index] or ''
end
if rev ~= '' and rev ~= fields[1] or ARGV[2] ~= (fields[6] or '') then
    return table.concat(answer, '\0')
end
answer[9] = 'answered'
for index = 8, 7 + math.min(wanted, 1000) do
    answer[index + 2] = fields[index] or ''
end
for start = 1001, wanted, 1000 do
    local last = math.min(start + 999, wanted)
    for _, value in ipairs(redis.call('HMGET', head, unpack(ARGV, start + 5, last + 5))) do
        answer[#answer + 1] = value or ''
    end
end
local ask = ARGV[4] ~= '' and cjson.decode(ARGV[4]) or {}
local found = {}

local instances = {}

local function see(names)
    -- In portions, since Lua's stack is bounded.
    for start = 1, #names, 1000 do
        local last = math.min(start + 999, #names)
        local texts = redis.call('HMGET', head .. ':b', unpack(names, start, last))
        for index, text in ipairs(texts) do
            if text then
                instances[names[start + index - 1]] = text
            end
        end
    end
end

local function is_resolved(text)
    local status = string.match(text, '^%l+')
    return status == 'finished' or status == 'replayed' or status == 'skipped'
        or status == 'abandoned'
end

-- Instances that match, of a session that is looked through as a whole: for what happens rarely.
local function look_through(matches)
    local all = redis.call('HGETALL', head)
    for index = 1, #all, 2 do
        local task = string.match(all[index], '^c:(.*)$')
        for number = 0, task and tonumber(all[index + 1]) - 1 or -1 do
            local name = task .. '#' .. number
            local text = redis.call('HGET', head .. ':b', name)
            if text and matches(task, text) then
                instances[name] = text
            end
        end
    end
end

if ask.instances then
    see(ask.instances)
end
for index = 6 + wanted, #ARGV do
    local names = redis.call('SMEMBERS', head .. ':w:' .. ARGV[index])
    answer[#answer + 1] = #names
    for _, name in ipairs(names) do
        answer[#answer + 1] = name
    end
    see(names)
end
if ask.waiting then
    -- Of these tasks, under the names that they listen to.
    for _, trigger in ipairs(ask.waiting.names) do
        local names = redis.call('SMEMBERS', head .. ':w:' .. trigger)
        local theirs = {}
        for _, name in ipairs(names) do
            if ask.waiting.tasks[string.match(name, '^(.*)#')] then
                theirs[#theirs + 1] = name
            end
        end
        see(theirs)
    end
end
if ask.timers then
    local last = ask.timers ~= '' and ask.timers or now
    found.timers = redis.call('ZRANGEBYSCORE', head .. ':timers', '-inf', last)
    see(found.timers)
end
if ask.due then
    -- All that may be; the decision looks at their times.
    found.due = redis.call('SMEMBERS', head .. ':a')
    see(found.due)
end
if ask.ref then
    local text = redis.call('HGET', head .. ':p', ask.ref)
    found.pending = text and {{ask.ref, text}} or nil
end
if ask.unsettled then
    found.unsettled = {}
    for index, task in ipairs(ask.unsettled) do
        found.unsettled[index] = redis.call('SRANDMEMBER', head .. ':u:' .. task[1], task[2])
    end
end
if ask.unsettled_of then
    look_through(function(task, text)
        return ask.unsettled_of[task] and not is_resolved(text)
    end)
end
if ask.ongoing then
    -- Of these tasks: who is to be started, runs, or waits for time; or else who has failed.
    local tasks, most = ask.ongoing.tasks, ask.ongoing.most
    local ongoing = {}
    local function note(names)
        for _, name in ipairs(names) do
            if #ongoing < most and tasks[string.match(name, '^(.*)#')] then
                ongoing[#ongoing + 1] = name
            end
        end
    end
    note(redis.call('SMEMBERS', head .. ':a'))
    note(redis.call('ZRANGE', head .. ':timers', 0, -1))
    for task in pairs(#ongoing < most and tasks or {}) do
        for _, number in ipairs(redis.call('SMEMBERS', head .. ':u:' .. task)) do
            local name = task .. '#' .. number
            if string.match(redis.call('HGET', head .. ':b', name) or '', '^failed\n') then
                note({name})
            end
        end
    end
    found.ongoing = ongoing
end
if ask.unresolved then
    look_through(function(_, text) return not is_resolved(text) end)
end
if ask.due or ask.unresolved or ask.marks then
    found.pending = {}
    local all = redis.call('HGETALL', head .. ':p')
    for index = 1, #all, 2 do
        found.pending[#found.pending + 1] = {all[index], all[index + 1]}
    end
end

local firings = {}
if ask.key then
    local seq = redis.call('HGET', head .. ':k', ask.key)
    if seq then
        found.key = seq
        firings[1] = {seq, redis.call('HGET', head .. ':b', seq)}
    end
end
if ask.firings then
    for _, seq in ipairs(ask.firings) do
        local text = redis.call('HGET', head .. ':b', seq)
        if text then
            firings[#firings + 1] = {seq, text}
        end
    end
end
if ask.history then
    -- Their names, without the kwargs, which may be large.
    found.history = {}
    for seq = 1, tonumber(fields[4] or 0) do
        local text = redis.call('HGET', head .. ':b', seq)
        -- Of a purged session, nothing is left.
        if text then
            local trigger, also =
                string.match(text, '^[^\n]*\n([^\n]*)\n[^\n]*\n[^\n]*\n([^\n]*)\n')
            found.history[#found.history + 1] = {tostring(seq), trigger, also}
        end
    end
end

if #firings > 0 then
    found.firings = firings
end
local total = #answer + 1
answer[total] = 0
for name, text in pairs(instances) do
    answer[#answer + 1] = name
    answer[#answer + 1] = text
end
answer[total] = (#answer - total) / 2
answer[#answer + 1] = next(found) and cjson.encode(found) or ''
return table.concat(answer, '\0')

-- What every script begins with: the session's keys, the time, and the indexes of its bucket.
--
-- RESEND_AFTER (microseconds), MOST_CASCADES and NEWEST_VERSION are constants of the engine, which
-- scripts.py puts before this.
--
-- KEYS[1] is the session's head. Its other keys begin with it, and those of its bucket with the
-- same hash tag (see keys.py), so all of them lie on the same server.

local head = KEYS[1]
local bucket = string.match(head, '^{[^}]*}:')
local member = string.sub(head, #bucket + 3)

-- The present in microseconds since 1970, as digits, since a number would be written with 14 of
-- them. A session's time never goes back.
local function present(given, clock)
    local now = given
    if now == '' then
        local time = redis.call('TIME')
        now = time[1] .. string.sub('00000' .. time[2], -6)
    end
    if clock and tonumber(clock) > tonumber(now) then
        return clock
    end
    return now
end

-- So many microseconds after a moment.
local function after(moment, microseconds)
    return string.format('%.0f', tonumber(moment) + microseconds)
end

-- A connection that broke may have broken after the commit. So what a connection did last is kept
-- for a minute, and a client that repeats itself gets the same answer.
local function answer_again(client, number)
    local known = redis.call('GET', bucket .. 'done:' .. client)
    if known and string.sub(known, 1, #number + 1) == number .. ' ' then
        return string.sub(known, #number + 2)
    end
end

local function note_answer(client, number, answer)
    redis.call('SET', bucket .. 'done:' .. client, number .. ' ' .. answer, 'PX', '60000')
    return answer
end

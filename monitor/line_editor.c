/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */
#include "monitor/line_editor.h"

#include "lib/string.h"

#define TERMINAL_COLUMNS  80
#define CANDIDATES_SHOWN  100
#define CANDIDATE_GAP     2
#define FIRST_PRINTABLE   0x20
#define DELETE            0x7F
#define UTF8_TAIL_MASK    0xC0
#define UTF8_TAIL         0x80
#define PARAMETER_MAX     9999
#define CONTROL(letter)   ((letter)-0x40)
#define SEARCH_PROMPT     "(reverse-i-search)`%s': "
#define PROMPT_SIZE       64
#define CLEAR_SCREEN      "\x1b[H\x1b[2J"
#define IN_RANGE(x, a, b) ((x) >= (a) && (x) <= (b))

enum escape_state {
    ESCAPE_NONE,
    ESCAPE_ESC, /* ESC was typed */
    ESCAPE_CSI, /* in a control sequence, ESC [ (ECMA-48, 5.4) */
    ESCAPE_SS3, /* ESC O: one more byte */
};

static void put(struct line_editor *editor, const char *text, size_t size)
{
    if (!editor->silent)
        editor->ops->write(editor->context, text, size);
}

static void put_text(struct line_editor *editor, const char *text)
{
    put(editor, text, strlen(text));
}

static void bell(struct line_editor *editor)
{
    put_text(editor, "\a");
}

static bool is_tail(char byte)
{
    return ((u8)byte & UTF8_TAIL_MASK) == UTF8_TAIL;
}

static size_t next_character(const struct line_editor *editor, size_t at)
{
    if (at < editor->length)
        at++;
    while (at < editor->length && is_tail(editor->line[at]))
        at++;
    return at;
}

static size_t previous_character(const struct line_editor *editor, size_t at)
{
    if (at > 0)
        at--;
    while (at > 0 && is_tail(editor->line[at]))
        at--;
    return at;
}

static size_t columns_between(const struct line_editor *editor, size_t from, size_t to)
{
    size_t columns = 0;

    for (; from < to; from = next_character(editor, from))
        columns++;
    return columns;
}

/* The text before the line; while searching it is made in `scratch`. */
static const char *prompt_of(const struct line_editor *editor, char scratch[PROMPT_SIZE])
{
    if (!editor->searching)
        return editor->prompt;
    snprintf(scratch, PROMPT_SIZE, SEARCH_PROMPT, editor->pattern);
    return scratch;
}

/* The last column stays free: some terminals wrap as soon as it is written. */
static size_t row_columns(const struct line_editor *editor)
{
    char scratch[PROMPT_SIZE];

    return TERMINAL_COLUMNS - 1 - strlen(prompt_of(editor, scratch));
}

/* Brings the cursor into the row, by half a row at a time: a line pasted is soon shown. */
static void scroll(struct line_editor *editor)
{
    size_t columns = row_columns(editor);

    if (editor->cursor >= editor->first &&
        columns_between(editor, editor->first, editor->cursor) <= columns)
        return;
    editor->first = editor->cursor;
    for (columns /= 2; columns > 0 && editor->first > 0; columns--)
        editor->first = previous_character(editor, editor->first);
}

static void repeat(struct line_editor *editor, char byte, size_t count)
{
    char bytes[TERMINAL_COLUMNS];

    memset(bytes, byte, sizeof(bytes));
    put(editor, bytes, MIN(count, sizeof(bytes)));
}

void line_editor_show(struct line_editor *editor)
{
    char scratch[PROMPT_SIZE];
    const char *prompt = prompt_of(editor, scratch);
    size_t end, columns = 0, before = editor->drawn, blanks;

    scroll(editor);
    for (end = editor->first; end < editor->length && columns < row_columns(editor); columns++)
        end = next_character(editor, end);
    put_text(editor, "\r");
    put_text(editor, prompt);
    put(editor, editor->line + editor->first, end - editor->first);
    editor->drawn = strlen(prompt) + columns;
    blanks = before > editor->drawn ? before - editor->drawn : 0;
    repeat(editor, ' ', blanks);
    repeat(editor, '\b', blanks + columns_between(editor, editor->cursor, end));
}

void line_editor_hide(struct line_editor *editor)
{
    put_text(editor, "\r");
    repeat(editor, ' ', editor->drawn);
    put_text(editor, "\r");
    editor->drawn = 0;
}

void line_editor_begin(struct line_editor *editor)
{
    editor->length = 0;
    editor->cursor = 0;
    editor->first = 0;
    editor->drawn = 0;
    editor->tails = 0;
    editor->too_long = false;
    editor->searching = false;
    editor->line[0] = '\0';
    editor->history_at = editor->history_used;
    line_editor_show(editor);
}

void line_editor_init(struct line_editor *editor, const char *prompt,
                      const struct line_editor_ops *ops, void *context)
{
    memset(editor, 0, sizeof(*editor));
    editor->prompt = prompt;
    editor->ops = ops;
    editor->context = context;
}

static bool insert(struct line_editor *editor, const char *text, size_t size)
{
    char *at = editor->line + editor->cursor;

    if (size > LINE_MAX_BYTES - editor->length) {
        editor->too_long = true;
        bell(editor);
        return false;
    }
    memmove(at + size, at, editor->length - editor->cursor + 1);
    memcpy(at, text, size);
    editor->length += size;
    editor->cursor += size;
    return true;
}

static void remove_range(struct line_editor *editor, size_t from, size_t to)
{
    if (from == to) {
        bell(editor);
        return;
    }
    editor->too_long = false;
    memmove(editor->line + from, editor->line + to, editor->length - to + 1);
    editor->length -= to - from;
    editor->cursor = from;
    line_editor_show(editor);
}

/* How many bytes follow the first one of a UTF-8 character (RFC 3629, section 3). */
static u8 tails_of(u8 byte)
{
    return byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : byte >= 0xC0;
}

static void insert_character(struct line_editor *editor)
{
    if (!insert(editor, editor->character, editor->character_size))
        return;
    if (editor->cursor == editor->length &&
        columns_between(editor, editor->first, editor->length) <= row_columns(editor)) {
        put(editor, editor->character, editor->character_size);
        editor->drawn++;
    } else {
        line_editor_show(editor);
    }
}

/* A person's character is taken when it is whole; bytes that make none are refused. */
static void insert_typed(struct line_editor *editor, char byte)
{
    if (editor->silent) {
        insert(editor, &byte, 1);
        return;
    }
    if (!is_tail(byte)) {
        editor->character_size = 0;
        editor->tails = tails_of((u8)byte);
    } else if (editor->tails > 0) {
        editor->tails--;
    } else {
        bell(editor);
        return;
    }
    editor->character[editor->character_size++] = byte;
    if (editor->tails == 0)
        insert_character(editor);
}

static bool in_row(const struct line_editor *editor, size_t at)
{
    return at >= editor->first && columns_between(editor, editor->first, at) <= row_columns(editor);
}

static void move_to(struct line_editor *editor, size_t at)
{
    size_t from = editor->cursor;

    editor->cursor = at;
    if (!in_row(editor, at))
        line_editor_show(editor);
    else if (at < from)
        repeat(editor, '\b', columns_between(editor, at, from));
    else
        put(editor, editor->line + from, at - from);
}

static void key_home(struct line_editor *editor)
{
    move_to(editor, 0);
}

static void key_end(struct line_editor *editor)
{
    move_to(editor, editor->length);
}

static void key_left(struct line_editor *editor)
{
    move_to(editor, previous_character(editor, editor->cursor));
}

static void key_right(struct line_editor *editor)
{
    move_to(editor, next_character(editor, editor->cursor));
}

static void key_backspace(struct line_editor *editor)
{
    remove_range(editor, previous_character(editor, editor->cursor), editor->cursor);
}

static void key_delete(struct line_editor *editor)
{
    remove_range(editor, editor->cursor, next_character(editor, editor->cursor));
}

static void key_kill_to_end(struct line_editor *editor)
{
    remove_range(editor, editor->cursor, editor->length);
}

static void key_kill_to_start(struct line_editor *editor)
{
    remove_range(editor, 0, editor->cursor);
}

static void key_kill_word(struct line_editor *editor)
{
    size_t from = editor->cursor;

    while (from > 0 && editor->line[from - 1] == ' ')
        from--;
    while (from > 0 && editor->line[from - 1] != ' ')
        from--;
    remove_range(editor, from, editor->cursor);
}

static void key_clear(struct line_editor *editor)
{
    put_text(editor, CLEAR_SCREEN);
    editor->drawn = 0;
    line_editor_show(editor);
}

/* ---- history ---- */

/* The line before the one at `at`, which is not the oldest. */
static size_t history_before(const struct line_editor *editor, size_t at)
{
    at--;
    while (at > 0 && editor->history[at - 1] != '\0')
        at--;
    return at;
}

static void history_go(struct line_editor *editor, size_t at)
{
    const char *line = at == editor->history_used ? editor->draft : editor->history + at;

    if (editor->history_at == editor->history_used)
        memcpy(editor->draft, editor->line, editor->length + 1);
    editor->history_at = at;
    editor->length = strlen(line);
    memcpy(editor->line, line, editor->length + 1);
    editor->cursor = editor->length;
    editor->first = 0;
}

static void key_up(struct line_editor *editor)
{
    if (editor->history_at == 0) {
        bell(editor);
        return;
    }
    history_go(editor, history_before(editor, editor->history_at));
    line_editor_show(editor);
}

static void key_down(struct line_editor *editor)
{
    size_t at = editor->history_at;

    if (at == editor->history_used) {
        bell(editor);
        return;
    }
    history_go(editor, at + strlen(editor->history + at) + 1);
    line_editor_show(editor);
}

static void history_forget_oldest(struct line_editor *editor)
{
    size_t size = strlen(editor->history) + 1;

    editor->history_used -= size;
    memmove(editor->history, editor->history + size, editor->history_used);
}

static void history_add(struct line_editor *editor)
{
    size_t used = editor->history_used, size = editor->length + 1;

    if (editor->silent || editor->length == 0 || size > LINE_HISTORY_BYTES)
        return;
    if (used > 0 && strcmp(editor->history + history_before(editor, used), editor->line) == 0)
        return;
    while (editor->history_used + size > LINE_HISTORY_BYTES)
        history_forget_oldest(editor);
    memcpy(editor->history + editor->history_used, editor->line, size);
    editor->history_used += size;
}

/* ---- search ---- */

static bool contains(const char *line, const char *pattern, size_t size)
{
    for (; *line != '\0'; line++) {
        if (strncmp(line, pattern, size) == 0)
            return true;
    }
    return false;
}

/* Shows the youngest line at `at` or before that holds the pattern. */
static void search_from(struct line_editor *editor, size_t at)
{
    for (;; at = history_before(editor, at)) {
        if (at < editor->history_used &&
            contains(editor->history + at, editor->pattern, editor->pattern_length)) {
            history_go(editor, at);
            break;
        }
        if (at == 0) {
            bell(editor);
            break;
        }
    }
    line_editor_show(editor);
}

/* Once more: the line before. */
static void key_search(struct line_editor *editor)
{
    if (!editor->searching) {
        editor->searching = true;
        editor->pattern[editor->pattern_length = 0] = '\0';
        line_editor_show(editor);
    } else if (editor->history_at > 0) {
        search_from(editor, history_before(editor, editor->history_at));
    } else {
        bell(editor);
    }
}

static void end_search(struct line_editor *editor)
{
    editor->searching = false;
    line_editor_show(editor);
}

static void set_pattern_length(struct line_editor *editor, size_t length, size_t at)
{
    editor->pattern[editor->pattern_length = length] = '\0';
    search_from(editor, at);
}

/* True when the byte is the search's; any other ends it and does what it always does. */
static bool search_byte(struct line_editor *editor, u8 byte)
{
    size_t length = editor->pattern_length;

    if (IN_RANGE(byte, FIRST_PRINTABLE, DELETE - 1) && length < LINE_PATTERN_SIZE - 1) {
        editor->pattern[length] = (char)byte;
        set_pattern_length(editor, length + 1, editor->history_at);
    } else if ((byte == DELETE || byte == CONTROL('H')) && length > 0) {
        set_pattern_length(editor, length - 1, editor->history_used);
    } else if (byte == CONTROL('R')) {
        key_search(editor);
    } else {
        if (byte == CONTROL('G'))
            history_go(editor, editor->history_used);
        end_search(editor);
        return byte == CONTROL('G');
    }
    return true;
}

/* ---- completion ---- */

struct completion {
    size_t word;  /* where the word begins */
    size_t typed; /* bytes of it before the cursor */
    const void *position;
};

static const char *next_candidate(struct line_editor *editor, struct completion *completion)
{
    const char *word = editor->line + completion->word;
    const char *candidate;

    do {
        candidate = editor->ops->candidate(editor->context, editor->line, completion->word,
                                           &completion->position);
    } while (candidate != NULL && strncmp(candidate, word, completion->typed) != 0);
    return candidate;
}

/* In whole characters. */
static size_t common_length(const char *a, const char *b, size_t limit)
{
    size_t length = 0;

    while (length < limit && a[length] != '\0' && a[length] == b[length])
        length++;
    while (length > 0 && is_tail(a[length]))
        length--;
    return length;
}

/* One name of a list in columns. Returns the new column. */
static size_t list_candidate(struct line_editor *editor, const char *name, size_t column)
{
    size_t size = strlen(name);

    if (column > 0 && column + CANDIDATE_GAP + size >= TERMINAL_COLUMNS) {
        put_text(editor, "\r\n");
        column = 0;
    }
    if (column > 0) {
        put(editor, "  ", CANDIDATE_GAP);
        column += CANDIDATE_GAP;
    }
    put(editor, name, size);
    return column + size;
}

static void list_candidates(struct line_editor *editor, struct completion *completion)
{
    const char *candidate;
    size_t column = 0;
    u32 count = 0;
    char more[32];

    completion->position = NULL;
    put_text(editor, "\r\n");
    while ((candidate = next_candidate(editor, completion)) != NULL) {
        if (++count <= CANDIDATES_SHOWN)
            column = list_candidate(editor, candidate, column);
    }
    if (count > CANDIDATES_SHOWN) {
        snprintf(more, sizeof(more), "\r\n(%u more)", count - CANDIDATES_SHOWN);
        put_text(editor, more);
    }
    put_text(editor, "\r\n");
    editor->drawn = 0;
    line_editor_show(editor);
}

/* Counts the candidates; `common` gets what all of them begin with. */
static u32 count_candidates(struct line_editor *editor, struct completion *completion,
                            char common[LINE_CANDIDATE])
{
    const char *candidate;
    u32 count = 0;

    common[0] = '\0';
    while ((candidate = next_candidate(editor, completion)) != NULL) {
        if (count++ == 0)
            snprintf(common, LINE_CANDIDATE, "%s", candidate);
        else
            common[common_length(common, candidate, LINE_CANDIDATE - 1)] = '\0';
    }
    return count;
}

static void key_complete(struct line_editor *editor)
{
    struct completion completion = {.word = editor->cursor};
    char common[LINE_CANDIDATE];
    size_t size;
    u32 count;

    while (completion.word > 0 && editor->line[completion.word - 1] != ' ')
        completion.word--;
    completion.typed = editor->cursor - completion.word;
    count = count_candidates(editor, &completion, common);
    size = strlen(common);
    if (count == 0 || size < completion.typed) {
        bell(editor);
    } else if (count > 1 && size == completion.typed) {
        list_candidates(editor, &completion);
    } else if (insert(editor, common + completion.typed, size - completion.typed)) {
        if (count == 1 && common[size - 1] != '=')
            insert(editor, " ", 1);
        line_editor_show(editor);
    }
}

/* ---- keys ---- */

struct key {
    u8 byte;
    void (*action)(struct line_editor *editor);
};

static const struct key control_keys[] = {
    {CONTROL('A'), key_home         },
    {CONTROL('B'), key_left         },
    {CONTROL('D'), key_delete       },
    {CONTROL('E'), key_end          },
    {CONTROL('F'), key_right        },
    {CONTROL('H'), key_backspace    },
    {CONTROL('I'), key_complete     },
    {CONTROL('K'), key_kill_to_end  },
    {CONTROL('L'), key_clear        },
    {CONTROL('N'), key_down         },
    {CONTROL('P'), key_up           },
    {CONTROL('R'), key_search       },
    {CONTROL('U'), key_kill_to_start},
    {CONTROL('W'), key_kill_word    },
    {DELETE,       key_backspace    },
    {0,            NULL             },
};

/* By the final byte of ESC [ and ESC O. */
static const struct key cursor_keys[] = {
    {'A', key_up   },
    {'B', key_down },
    {'C', key_right},
    {'D', key_left },
    {'F', key_end  },
    {'H', key_home },
    {0,   NULL     },
};

/* By the parameter of ESC [ parameter ~. */
static const struct key numbered_keys[] = {
    {1, key_home  },
    {3, key_delete},
    {4, key_end   },
    {7, key_home  },
    {8, key_end   },
    {0, NULL      },
};

static void press(struct line_editor *editor, const struct key *keys, u32 byte)
{
    for (; keys->action != NULL && !editor->passive; keys++) {
        if (keys->byte == byte)
            keys->action(editor);
    }
}

/* ECMA-48, 5.4: parameter and intermediate bytes 20h-3Fh, then a final byte 40h-7Eh. */
static void control_sequence(struct line_editor *editor, u8 byte)
{
    if (IN_RANGE(byte, '0', '9') && !editor->parameter_ended) {
        editor->parameter = MIN(editor->parameter * 10 + (byte - '0'), PARAMETER_MAX);
    } else if (IN_RANGE(byte, 0x20, 0x3F)) {
        editor->parameter_ended = true;
    } else {
        editor->escape = ESCAPE_NONE;
        editor->reported |= byte == 'R';
        if (byte == '~')
            press(editor, numbered_keys, editor->parameter);
        else
            press(editor, cursor_keys, byte);
    }
}

static void escape_sequence(struct line_editor *editor, u8 byte)
{
    switch (editor->escape) {
    case ESCAPE_ESC:
        editor->escape = byte == '[' ? ESCAPE_CSI : byte == 'O' ? ESCAPE_SS3 : ESCAPE_NONE;
        editor->parameter = 0;
        editor->parameter_ended = false;
        return;
    case ESCAPE_CSI:
        control_sequence(editor, byte);
        return;
    default:
        editor->escape = ESCAPE_NONE;
        press(editor, cursor_keys, byte);
        return;
    }
}

static enum line_event enter(struct line_editor *editor)
{
    put_text(editor, "\r\n");
    if (editor->too_long)
        return LINE_TOO_LONG;
    history_add(editor);
    return LINE_ENTERED;
}

static enum line_event control_byte(struct line_editor *editor, u8 byte)
{
    editor->escape = ESCAPE_NONE;
    editor->tails = 0;
    switch (byte) {
    case '\r':
        editor->after_cr = true;
        return enter(editor);
    case '\n':
        return enter(editor);
    case CONTROL('C'):
        put_text(editor, "\r\n");
        return LINE_INTERRUPTED;
    case CONTROL('['):
        editor->escape = ESCAPE_ESC;
        return LINE_EDITING;
    default:
        press(editor, control_keys, byte);
        return LINE_EDITING;
    }
}

bool line_editor_is_tail(struct line_editor *editor, u8 byte)
{
    bool tail = editor->after_cr && byte == '\n';

    editor->after_cr = false;
    return tail;
}

enum line_event line_editor_byte(struct line_editor *editor, u8 byte)
{
    if (line_editor_is_tail(editor, byte))
        return LINE_EDITING;
    if (editor->searching && search_byte(editor, byte))
        return LINE_EDITING;
    if (byte < FIRST_PRINTABLE || byte == DELETE)
        return control_byte(editor, byte);
    if (editor->escape != ESCAPE_NONE)
        escape_sequence(editor, byte);
    else
        insert_typed(editor, (char)byte);
    return LINE_EDITING;
}

bool line_editor_sequence(struct line_editor *editor, u8 byte)
{
    if (byte == CONTROL('[')) {
        editor->escape = ESCAPE_ESC;
        return true;
    }
    if (editor->escape == ESCAPE_NONE || byte < FIRST_PRINTABLE) {
        editor->escape = ESCAPE_NONE;
        return false;
    }
    editor->passive = true;
    escape_sequence(editor, byte);
    editor->passive = false;
    return true;
}

/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "tests/models/json.h"

struct cursor {
	const char *at, *end;
};

static void blanks(struct cursor *c)
{
	while (c->at < c->end && strchr(" \t\r\n", *c->at) && *c->at)
		c->at++;
}

static bool eat(struct cursor *c, char ch)
{
	blanks(c);
	if (c->at == c->end || *c->at != ch)
		return false;
	c->at++;
	return true;
}

static bool word(struct cursor *c, const char *w)
{
	const size_t n = strlen(w);

	if ((size_t)(c->end - c->at) < n || memcmp(c->at, w, n) != 0)
		return false;
	c->at += n;
	return true;
}

/* Escapes are passed over, not decoded: no name that we look for has one. */
static bool string(struct cursor *c, const char **from, size_t *n)
{
	if (!eat(c, '"'))
		return false;
	*from = c->at;
	while (c->at < c->end && *c->at != '"') {
		if ((unsigned char)*c->at < 0x20)
			return false;
		if (*c->at == '\\' && ++c->at == c->end)
			return false;
		c->at++;
	}
	*n = (size_t)(c->at - *from);
	return c->at++ < c->end;
}

static bool number(struct cursor *c)
{
	const char *from = c->at;

	while (c->at < c->end && *c->at && strchr("+-.eE0123456789", *c->at))
		c->at++;
	return c->at > from;
}

/* Passes one value. found: set where a `true` is at path, which counts from this value on. */
static bool value(struct cursor *c, const char *const *path, unsigned depth, unsigned level, bool *found)
{
	bool seen = false;

	blanks(c);
	if (c->at == c->end || level >= JSON_DEPTH)
		return false;
	if (eat(c, '{')) {
		if (eat(c, '}'))
			return true;
		do {
			const char *name;
			size_t n;
			bool mine;

			if (!string(c, &name, &n) || !eat(c, ':'))
				return false;
			mine = depth && !seen && strlen(path[0]) == n && memcmp(path[0], name, n) == 0;
			seen |= mine;
			if (!value(c, mine ? path + 1 : NULL, mine ? depth - 1 : 0, level + 1,
				   mine ? found : NULL))
				return false;
		} while (eat(c, ','));
		return eat(c, '}');
	}
	if (eat(c, '[')) {
		if (eat(c, ']'))
			return true;
		do
			if (!value(c, NULL, 0, level + 1, NULL))
				return false;
		while (eat(c, ','));
		return eat(c, ']');
	}
	if (*c->at == '"') {
		const char *from;
		size_t n;

		return string(c, &from, &n);
	}
	if (word(c, "true")) {
		if (found && !depth)
			*found = true;
		return true;
	}
	return word(c, "false") || word(c, "null") || number(c);
}

static bool whole(const char *text, size_t n, const char *const *path, unsigned depth, bool *found)
{
	struct cursor c = { text, text + n };

	if (!value(&c, path, depth, 0, found))
		return false;
	blanks(&c);
	return c.at == c.end;
}

bool json_valid(const char *text, size_t n)
{
	return whole(text, n, NULL, 0, NULL);
}

bool json_true_at(const char *text, size_t n, const char *const *path, unsigned depth)
{
	bool found = false;

	return whole(text, n, path, depth, &found) && found;
}

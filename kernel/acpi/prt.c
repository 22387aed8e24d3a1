/* SPDX-License-Identifier: MIT */

/*
 * A PCI interrupt pin's route, read from the DSDT without an AML interpreter (ACPI 6.5, 6.2.13, 20.2).
 *
 * What defines names (Scope, Device, Name, Method and their like) is walked; what computes is stepped over.
 * A _PRT is a package, or a method that returns packages as they stand or by name; of several (one for
 * each interrupt model) the one that leads to a fixed global system interrupt is taken. An interrupt link
 * whose _CRS is a method is programmable: what it is set to stands in a register of the chipset.
 *
 * Nothing is trusted: every length is checked against what encloses it, depth and candidates are bounded,
 * and each step goes forward.
 */

#include "kernel/acpi/table.h"
#include "kernel/lib/bits.h"
#include "kernel/lib/string.h"

#define DEPTH 8           /* of scopes, and of a path */
#define CANDIDATES 4      /* packages that one _PRT may return */
#define LOOKUPS    512    /* of names, each a walk over all of it */

enum { AML_ZERO = 0x00, AML_ONE = 0x01, AML_NAME = 0x08, AML_BYTE = 0x0a, AML_WORD = 0x0b, AML_DWORD = 0x0c,
       AML_STRING = 0x0d, AML_QWORD = 0x0e, AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_PACKAGE = 0x12,
       AML_VAR_PACKAGE = 0x13, AML_METHOD = 0x14, AML_DUAL_NAME = 0x2e, AML_MULTI_NAME = 0x2f, AML_EXT = 0x5b,
       AML_ROOT = 0x5c, AML_PARENT = 0x5e, AML_IF = 0xa0, AML_ELSE = 0xa1, AML_RETURN = 0xa4, AML_ONES = 0xff };
/* Of two bytes: */
enum { EXT_FIELD = 0x5b81, EXT_DEVICE = 0x5b82, EXT_PROCESSOR = 0x5b83, EXT_POWER = 0x5b84, EXT_THERMAL = 0x5b85,
       EXT_INDEX_FIELD = 0x5b86, EXT_BANK_FIELD = 0x5b87 };

struct aml { const uint8_t *p; size_t len; unsigned lookups; }; /* lookups: so many more are allowed */
struct path { unsigned n; uint8_t seg[DEPTH][4]; };

/* PkgLength (20.2.4) at *at: moves past it and says where the package ends. */
static bool pkg(const struct aml *a, size_t *at, size_t end, size_t *pkg_end)
{
	size_t start = *at, more, v;

	if (start >= end)
		return false;
	more = a->p[start] >> 6;
	if (end - start <= more)
		return false;
	v = more ? a->p[start] & 0xf : a->p[start] & 0x3f;
	for (size_t i = 1; i <= more; i++)
		v |= (size_t)a->p[start + i] << (8 * i - 4);
	if (v <= more || v > end - start)
		return false;
	*at = start + more + 1;
	*pkg_end = start + v;
	return true;
}

static bool is_seg(const uint8_t *s)
{
	for (unsigned i = 0; i < 4; i++)
		if (!(s[i] == '_' || (s[i] >= 'A' && s[i] <= 'Z') || (i && s[i] >= '0' && s[i] <= '9')))
			return false;
	return true;
}

/*
 * A NameString (20.2.2) at *at, seen from `in`. *searched: a single segment, which is looked for in the scopes
 * above too (5.3).
 */
static bool name(const struct aml *a, size_t *at, size_t end, const struct path *in, struct path *out, bool *searched)
{
	size_t i = *at, segs = 1;
	bool prefixed = false;

	*out = *in;
	for (; i < end && (a->p[i] == AML_ROOT || a->p[i] == AML_PARENT); i++) {
		prefixed = true;
		if (a->p[i] == AML_ROOT)
			out->n = 0;
		else if (out->n)
			out->n--;
	}
	if (i >= end)
		return false;
	if (a->p[i] == AML_DUAL_NAME) {
		segs = 2;
		i++;
	} else if (a->p[i] == AML_MULTI_NAME) {
		if (end - i < 2)
			return false;
		segs = a->p[i + 1];
		i += 2;
	} else if (a->p[i] == 0) { /* NullName: the prefix alone */
		*at = i + 1;
		*searched = false;
		return true;
	}
	if (!segs || segs > DEPTH - out->n || (end - i) / 4 < segs)
		return false;
	for (size_t k = 0; k < segs; k++, i += 4) {
		if (!is_seg(a->p + i))
			return false;
		memcpy(out->seg[out->n++], a->p + i, 4);
	}
	*at = i;
	*searched = !prefixed && segs == 1;
	return true;
}

/* An integer constant; moves past it. */
static bool integer(const struct aml *a, size_t *at, size_t end, uint64_t *v)
{
	size_t n = 0;

	if (*at >= end)
		return false;
	switch (a->p[*at]) {
	case AML_ZERO:
	case AML_ONE:
		*v = a->p[(*at)++];
		return true;
	case AML_ONES:
		(*at)++;
		*v = UINT64_MAX;
		return true;
	case AML_BYTE:
		n = 1;
		break;
	case AML_WORD:
		n = 2;
		break;
	case AML_DWORD:
		n = 4;
		break;
	case AML_QWORD:
		n = 8;
		break;
	default:
		return false;
	}
	if (end - *at <= n)
		return false;
	*v = 0;
	for (size_t i = n; i > 0; i--)
		*v = *v << 8 | a->p[*at + i];
	*at += n + 1;
	return true;
}

/* ---- the walk ---- */

struct object { struct path path; uint16_t op; size_t body, end; }; /* op: AML_NAME, AML_METHOD or EXT_DEVICE */
struct visit { bool (*fn)(struct visit *, const struct object *); void *arg; };

/* True: the visitor has what it wanted. */
static bool walk(const struct aml *a, size_t at, size_t end, const struct path *in, unsigned depth, struct visit *v)
{
	while (at < end) {
		const size_t op = at;
		struct object o = {.op = a->p[at], .end = end};
		bool searched, opens = false;

		at++;
		if (o.op == AML_EXT && at < end)
			o.op = (uint16_t)(AML_EXT << 8 | a->p[at++]);
		switch (o.op) {
		case AML_SCOPE:
		case EXT_DEVICE:
		case EXT_PROCESSOR:
		case EXT_POWER:
		case EXT_THERMAL:
			opens = true;
			__attribute__((fallthrough));
		case AML_METHOD:
			if (!pkg(a, &at, end, &o.end) || !name(a, &at, o.end, in, &o.path, &searched)) {
				at = op + 1;
				continue;
			}
			o.body = MIN(at + (o.op == AML_METHOD), o.end);
			if (o.op != AML_SCOPE && v->fn(v, &o))
				return true;
			if (opens && depth && walk(a, o.body, o.end, &o.path, depth - 1, v))
				return true;
			at = o.end;
			break;
		case AML_NAME:
			if (!name(a, &at, end, in, &o.path, &searched) || at >= end) {
				at = op + 1;
				continue;
			}
			o.body = at;
			if (v->fn(v, &o))
				return true;
			break; /* its value is what comes next */
		case AML_IF:
		case AML_ELSE:
			/* What it guards counts as there. */
			if (!pkg(a, &at, end, &o.end))
				at = op + 1;
			break;
		case AML_BUFFER:
		case AML_PACKAGE:
		case AML_VAR_PACKAGE:
		case EXT_FIELD:
		case EXT_INDEX_FIELD:
		case EXT_BANK_FIELD:
			at = pkg(a, &at, end, &o.end) ? o.end : op + 1;
			break;
		case AML_BYTE:
		case AML_WORD:
		case AML_DWORD:
		case AML_QWORD: {
			uint64_t ignored;

			at = op;
			if (!integer(a, &at, end, &ignored))
				at = op + 1;
			break;
		}
		default:
			break; /* of no interest, or of a kind that computes */
		}
	}
	return false;
}

static bool same(const struct path *x, const struct path *y)
{
	return x->n == y->n && !memcmp(x->seg, y->seg, 4 * x->n);
}

struct lookup { const struct path *want; struct object found; };

static bool is_wanted(struct visit *v, const struct object *o)
{
	struct lookup *l = v->arg;

	if (!same(&o->path, l->want))
		return false;
	l->found = *o;
	return true;
}

static bool find(struct aml *a, const struct path *want, struct object *out)
{
	struct lookup l = {.want = want};
	struct visit v = {is_wanted, &l};

	if (!a->lookups)
		return false;
	a->lookups--;
	if (!walk(a, ACPI_HEADER_SIZE, a->len, &(struct path){0}, DEPTH, &v))
		return false;
	*out = l.found;
	return true;
}

/* As a reference is resolved: where a single segment is not in its own scope, in the ones above. */
static bool resolve(struct aml *a, struct path want, bool searched, struct object *out)
{
	while (!find(a, &want, out)) {
		if (!searched || want.n < 2)
			return false;
		memcpy(want.seg[want.n - 2], want.seg[want.n - 1], 4);
		want.n--;
	}
	return true;
}

static bool child(const struct path *p, const char seg[4], struct path *out)
{
	*out = *p;
	if (p->n >= DEPTH)
		return false;
	memcpy(out->seg[out->n++], seg, 4);
	return true;
}

/* Device p's constant of that name. */
static bool constant(struct aml *a, const struct path *p, const char seg[4], uint64_t *v)
{
	struct path want;
	struct object o;

	return child(p, seg, &want) && find(a, &want, &o) && o.op == AML_NAME && integer(a, &o.body, o.end, v);
}

/* ---- interrupt links ---- */

/* The interrupt of a resource template (6.4.2.1, 6.4.3.6). */
static bool template_interrupt(const uint8_t *p, size_t n, struct prt_route *r)
{
	for (size_t i = 0; i < n;) {
		const bool large = p[i] & 0x80;
		const size_t head = large ? 3 : 1;
		size_t size;

		if (n - i < head)
			return false;
		size = large ? p[i + 1] | (size_t)p[i + 2] << 8 : p[i] & 7;
		if (n - i - head < size)
			return false;
		if (p[i] == 0x89 && size >= 6 && p[i + 4]) {
			r->edge = p[i + 3] & 2;
			r->active_high = !(p[i + 3] & 4);
			r->gsi = get_le32(p + i + 5);
			return true;
		}
		if ((p[i] & 0x78) == 0x20 && size >= 2) {
			const uint32_t mask = p[i + 1] | (uint32_t)p[i + 2] << 8;

			r->edge = size < 3 || (p[i + 3] & 1);
			r->active_high = size < 3 || !(p[i + 3] & 8);
			r->gsi = mask ? (uint32_t)__builtin_ctz(mask) : 0;
			return mask != 0;
		}
		i += head + size;
	}
	return false;
}

static bool link_route(struct aml *a, const struct path *link, struct prt_route *r)
{
	struct path want;
	struct object o;
	uint64_t size;
	size_t end;

	memcpy(r->link, link->seg[link->n - 1], 4);
	if (!child(link, "_CRS", &want) || !find(a, &want, &o))
		return false;
	if (o.op != AML_NAME) {
		r->programmable = true;
		return true;
	}
	if (a->p[o.body++] != AML_BUFFER || !pkg(a, &o.body, o.end, &end) || !integer(a, &o.body, end, &size))
		return false;
	return template_interrupt(a->p + o.body, MIN((size_t)size, end - o.body), r);
}

/* ---- the routing table ---- */

struct question { struct aml *a; uint64_t slot, pin; struct prt_route best; bool any; };

/* Fixed and of the I/O APIC's own; fixed; by a register: in this order. */
static unsigned rank(const struct prt_route *r)
{
	return r->programmable ? 1 : r->gsi < 16 && r->link[0] ? 2 : 3;
}

/* One entry: Package {address, pin, source, source index}. */
static bool entry_route(struct question *q, size_t at, size_t end, const struct path *in, struct prt_route *r)
{
	uint64_t address, pin, zero, index;
	struct path link;
	struct object o;
	bool searched;

	*r = (struct prt_route){.edge = false};
	if (at++ >= end) /* NumElements */
		return false;
	if (!integer(q->a, &at, end, &address) || !integer(q->a, &at, end, &pin))
		return false;
	if ((address >> 16 & 0xffff) != q->slot || pin != q->pin)
		return false;
	if (at < end && integer(q->a, &at, end, &zero)) {
		if (zero || !integer(q->a, &at, end, &index))
			return false;
		r->gsi = (uint32_t)index;
		return index <= UINT32_MAX;
	}
	return name(q->a, &at, end, in, &link, &searched) && link.n && resolve(q->a, link, searched, &o) &&
	       o.op == EXT_DEVICE && link_route(q->a, &o.path, r);
}

/* A package of entries at its PkgLength. */
static void table_routes(struct question *q, size_t at, size_t end, const struct path *in)
{
	struct prt_route r;
	size_t table_end, entry_end;

	if (!pkg(q->a, &at, end, &table_end) || at >= table_end)
		return;
	at++; /* NumElements; what there is ends it */
	while (at < table_end && q->a->p[at] == AML_PACKAGE) {
		at++;
		if (!pkg(q->a, &at, table_end, &entry_end))
			return;
		if (entry_route(q, at, entry_end, in, &r)) {
			if (!q->any || rank(&r) > rank(&q->best))
				q->best = r;
			q->any = true;
			return;
		}
		at = entry_end;
	}
}

/* What a method returns: a package as it stands, or by name. */
static void method_routes(struct question *q, const struct object *m)
{
	unsigned candidates = 0;

	for (size_t at = m->body; at + 1 < m->end && candidates < CANDIDATES; at++) {
		size_t next = at + 1;
		struct path p;
		struct object o;
		bool searched;

		if (q->a->p[at] != AML_RETURN)
			continue;
		if (q->a->p[next] == AML_PACKAGE) {
			candidates++;
			table_routes(q, next + 1, m->end, &m->path);
		} else if (name(q->a, &next, m->end, &m->path, &p, &searched) && p.n &&
			   resolve(q->a, p, searched, &o) && o.op == AML_NAME && q->a->p[o.body] == AML_PACKAGE) {
			candidates++;
			table_routes(q, o.body + 1, o.end, &o.path);
		}
	}
}

struct root { struct aml *a; uint64_t bus; struct object prt; };

#define EISA_PNP0A03 0x030ad041u /* a PCI root, and */
#define EISA_PNP0A08 0x080ad041u /* a PCI Express one */

static bool is_root_prt(struct visit *v, const struct object *o)
{
	struct root *r = v->arg;
	struct path dev = o->path;
	uint64_t hid, bus = 0;

	if (!o->path.n || memcmp(o->path.seg[o->path.n - 1], "_PRT", 4) != 0 || o->op == EXT_DEVICE)
		return false;
	dev.n--;
	if (!constant(r->a, &dev, "_HID", &hid) || (hid != EISA_PNP0A03 && hid != EISA_PNP0A08))
		return false;
	(void)constant(r->a, &dev, "_BBN", &bus);
	if (bus != r->bus)
		return false;
	r->prt = *o;
	return true;
}

int prt_find(const uint8_t *dsdt, size_t len, uint8_t root_bus, unsigned slot, unsigned pin, struct prt_route *out)
{
	struct aml a = {dsdt, len, LOOKUPS};
	struct root root = {.a = &a, .bus = root_bus};
	struct visit v = {is_root_prt, &root};
	struct question q = {.a = &a, .slot = slot, .pin = pin};

	if (!walk(&a, ACPI_HEADER_SIZE, len, &(struct path){0}, DEPTH, &v))
		return -ENOENT;
	if (root.prt.op == AML_METHOD)
		method_routes(&q, &root.prt);
	else if (dsdt[root.prt.body] == AML_PACKAGE)
		table_routes(&q, root.prt.body + 1, root.prt.end, &root.prt.path);
	if (!q.any)
		return -ENODATA;
	*out = q.best;
	return 0;
}

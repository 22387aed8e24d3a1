/* SPDX-License-Identifier: MIT */
/* What the compiler calls for __builtin_popcount where the CPU is not known to have POPCNT. */
int __popcountdi2(long long v);
int __popcountdi2(long long v)
{
	unsigned long long x = (unsigned long long)v;

	/* sums of 2, of 4, of 8 bits side by side; the product's top byte is the sum of all bytes */
	x -= x >> 1 & 0x5555555555555555ull;
	x = (x & 0x3333333333333333ull) + (x >> 2 & 0x3333333333333333ull);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (int)(x * 0x0101010101010101ull >> 56);
}

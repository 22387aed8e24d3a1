/* SPDX-License-Identifier: MIT */
#pragma once

/* Architectural MSRs and control bits that are ours (SDM vol. 4 and vol. 3, 2.5); the APIC's are its own. */
#define MSR_EFER       0xc0000080
#define EFER_NXE       BIT64(11)
#define MSR_GS_BASE    0xc0000101
#define MSR_TSC        0x10
#define MSR_PAT        0x277

#define CR0_MP         BIT64(1)
#define CR0_EM         BIT64(2)
#define CR0_TS         BIT64(3)
#define CR0_NE         BIT64(5)
#define CR0_WP         BIT64(16)
#define CR0_NW         BIT64(29)
#define CR0_CD         BIT64(30)
#define CR4_SMEP       BIT64(20)
#define CR4_SMAP       BIT64(21)

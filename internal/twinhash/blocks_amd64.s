// SPDX-License-Identifier: Apache-2.0

//go:build !purego

#include "textflag.h"

// The instructions want the eight words a to h of a state as two registers, ABEF
// and CDGH (Intel SDM volume 2, SHA256RNDS2). Each does two rounds of one state.

#define WK X0 // message words plus constants; SHA256RNDS2 knows no other register
#define ABEF1 X1
#define CDGH1 X2
#define ABEF2 X3
#define CDGH2 X4
#define M0 X5 // 16 words of the message schedule
#define M1 X6
#define M2 X7
#define M3 X8
#define TMP X9
#define FLIP X10

// LOAD takes a state from p.
#define LOAD(p, abef, cdgh) \
	MOVOU   (p), abef         \
	MOVOU   16(p), cdgh       \
	PSHUFD  $0xb1, abef, abef \
	PSHUFD  $0x1b, cdgh, cdgh \
	MOVO    abef, TMP         \
	PALIGNR $8, cdgh, abef    \
	PBLENDW $0xf0, TMP, cdgh

// STORE is the inverse of LOAD.
#define STORE(p, abef, cdgh) \
	PSHUFD  $0x1b, abef, abef \
	PSHUFD  $0xb1, cdgh, cdgh \
	MOVO    abef, TMP         \
	PBLENDW $0xf0, cdgh, abef \
	PALIGNR $8, TMP, cdgh     \
	MOVOU   abef, (p)         \
	MOVOU   cdgh, 16(p)

// ROUNDS does four rounds of both states with the words m and the constants at k.
#define ROUNDS(k, m) \
	MOVO        m, WK            \
	PADDD       k(AX), WK        \
	SHA256RNDS2 WK, ABEF1, CDGH1 \
	SHA256RNDS2 WK, ABEF2, CDGH2 \
	PSHUFD      $0x0e, WK, WK    \
	SHA256RNDS2 WK, CDGH1, ABEF1 \
	SHA256RNDS2 WK, CDGH2, ABEF2

// WORDS replaces the four words a, which 12 words b, c and d follow, by the four
// that follow those.
#define WORDS(a, b, c, d) \
	SHA256MSG1 b, a       \
	MOVO       d, TMP     \
	PALIGNR    $4, c, TMP \
	PADDD      TMP, a     \
	SHA256MSG2 d, a

// MESSAGE loads four words.
#define MESSAGE(off, m) \
	MOVOU  off(SI), m \
	PSHUFB FLIP, m

// func blocks(a, b *[8]uint32, p []byte)
TEXT ·blocks(SB), NOSPLIT, $0-40
	MOVQ a+0(FP), DI
	MOVQ b+8(FP), DX
	MOVQ p_base+16(FP), SI
	MOVQ p_len+24(FP), CX
	SHRQ $6, CX
	JZ   done
	LEAQ constants<>(SB), AX
	MOVOU flip<>(SB), FLIP
	LOAD(DI, ABEF1, CDGH1)
	LOAD(DX, ABEF2, CDGH2)

loop:
	MOVO ABEF1, X11
	MOVO CDGH1, X12
	MOVO ABEF2, X13
	MOVO CDGH2, X14

	MESSAGE(0, M0)
	ROUNDS(0, M0)
	MESSAGE(16, M1)
	ROUNDS(16, M1)
	MESSAGE(32, M2)
	ROUNDS(32, M2)
	MESSAGE(48, M3)
	ROUNDS(48, M3)
	WORDS(M0, M1, M2, M3)
	ROUNDS(64, M0)
	WORDS(M1, M2, M3, M0)
	ROUNDS(80, M1)
	WORDS(M2, M3, M0, M1)
	ROUNDS(96, M2)
	WORDS(M3, M0, M1, M2)
	ROUNDS(112, M3)
	WORDS(M0, M1, M2, M3)
	ROUNDS(128, M0)
	WORDS(M1, M2, M3, M0)
	ROUNDS(144, M1)
	WORDS(M2, M3, M0, M1)
	ROUNDS(160, M2)
	WORDS(M3, M0, M1, M2)
	ROUNDS(176, M3)
	WORDS(M0, M1, M2, M3)
	ROUNDS(192, M0)
	WORDS(M1, M2, M3, M0)
	ROUNDS(208, M1)
	WORDS(M2, M3, M0, M1)
	ROUNDS(224, M2)
	WORDS(M3, M0, M1, M2)
	ROUNDS(240, M3)

	PADDD X11, ABEF1
	PADDD X12, CDGH1
	PADDD X13, ABEF2
	PADDD X14, CDGH2
	ADDQ  $64, SI
	DECQ  CX
	JNZ   loop

	STORE(DI, ABEF1, CDGH1)
	STORE(DX, ABEF2, CDGH2)

done:
	RET

// func cpuid(leaf, sub uint32) (a, b, c, d uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, a+8(FP)
	MOVL BX, b+12(FP)
	MOVL CX, c+16(FP)
	MOVL DX, d+20(FP)
	RET

// The bytes of each word in reverse: messages are big-endian.
DATA flip<>+0(SB)/8, $0x0405060700010203
DATA flip<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL flip<>(SB), RODATA|NOPTR, $16

// FIPS 180-4 section 4.2.2.
DATA constants<>+0(SB)/8, $0x71374491428a2f98
DATA constants<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA constants<>+16(SB)/8, $0x59f111f13956c25b
DATA constants<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA constants<>+32(SB)/8, $0x12835b01d807aa98
DATA constants<>+40(SB)/8, $0x550c7dc3243185be
DATA constants<>+48(SB)/8, $0x80deb1fe72be5d74
DATA constants<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA constants<>+64(SB)/8, $0xefbe4786e49b69c1
DATA constants<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA constants<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA constants<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA constants<>+96(SB)/8, $0xa831c66d983e5152
DATA constants<>+104(SB)/8, $0xbf597fc7b00327c8
DATA constants<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA constants<>+120(SB)/8, $0x1429296706ca6351
DATA constants<>+128(SB)/8, $0x2e1b213827b70a85
DATA constants<>+136(SB)/8, $0x53380d134d2c6dfc
DATA constants<>+144(SB)/8, $0x766a0abb650a7354
DATA constants<>+152(SB)/8, $0x92722c8581c2c92e
DATA constants<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA constants<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA constants<>+176(SB)/8, $0xd6990624d192e819
DATA constants<>+184(SB)/8, $0x106aa070f40e3585
DATA constants<>+192(SB)/8, $0x1e376c0819a4c116
DATA constants<>+200(SB)/8, $0x34b0bcb52748774c
DATA constants<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA constants<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA constants<>+224(SB)/8, $0x78a5636f748f82ee
DATA constants<>+232(SB)/8, $0x8cc7020884c87814
DATA constants<>+240(SB)/8, $0xa4506ceb90befffa
DATA constants<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL constants<>(SB), RODATA|NOPTR, $256

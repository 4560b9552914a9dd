"""Variables that switch off what differs between CPUs; other names than these are ignored without a word."""

PLAIN_CPU = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR AVX2 FMA3 AVX512F",  # NumPy 2.4's, then older
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-FMA,-FMA4,-AVX2_Usable,-FMA_Usable",
    "ATEN_CPU_CAPABILITY": "default",
    "JSIMD_FORCENONE": "1",  # libjpeg-turbo
}

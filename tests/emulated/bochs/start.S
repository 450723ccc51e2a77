/*
 * From reset to C: the machine's whole firmware. 16-bit real mode, 32-bit protected mode, 64-bit mode with 4 GB mapped
 * as they lie, all state enabled in XCR0 that the CPU has (Intel SDM volume 3, 10.9 and 12.8; volume 1,
 * chapter 13). No interrupts: an exception ends in a triple fault, which ends Bochs.
 */
  .set CODE32, 8
  .set CODE64, 16
  .set DATA, 24

/* Top of memory, in the ROM's last page; image.ld puts it there. */
  .globl enter
  .section .reset, "ax"
  .code16
enter:
  cli
  lgdtl %cs:(table - 0xffff0000)
  movl %cr0, %eax
  orl $1, %eax /* PE */
  movl %eax, %cr0
  ljmpl $CODE32, $protected

  .code32
protected:
  movw $DATA, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  /* The program runs from memory. */
  cld
  movl $rom_begin, %esi
  movl $image_begin, %edi
  movl $image_words, %ecx
  rep movsl
  /* Four tables of 512 pages of 2 MB. */
  movl $0x10000, %edi
  movl %edi, %cr3
  xorl %eax, %eax
  movl $(6 * 1024), %ecx
  rep stosl
  movl $0x11003, 0x10000
  movl $0x12003, 0x11000
  movl $0x13003, 0x11008
  movl $0x14003, 0x11010
  movl $0x15003, 0x11018
  movl $0x83, %eax /* present, writable, large */
  movl $0x12000, %edi
1:
  movl %eax, (%edi)
  addl $8, %edi
  addl $0x200000, %eax
  jnc 1b
  movl $0x40620, %eax /* PAE, OSFXSR, OSXMMEXCPT, OSXSAVE */
  movl %eax, %cr4
  movl $0xc0000080, %ecx
  rdmsr
  orl $0x100, %eax /* EFER.LME */
  wrmsr
  movl %cr0, %eax
  andl $~4, %eax /* EM */
  orl $0x80000002, %eax /* PG, MP */
  movl %eax, %cr0
  ljmpl $CODE64, $start

  .balign 8
descriptors:
  .quad 0
  .quad 0x00cf9b000000ffff /* CODE32 */
  .quad 0x00af9b000000ffff /* CODE64 */
  .quad 0x00cf93000000ffff /* DATA */
table:
  .word table - descriptors - 1
  .long descriptors

  .org 0xff0 /* where the CPU begins */
  .code16
  jmp enter
  .org 0x1000

  .section .start, "ax"
  .code64
start:
  movl $0x800000, %esp
  xorl %eax, %eax
  movl $bss_begin, %edi
  movl $bss_words, %ecx
  rep stosl
  /* Thread-local variables lie below the FS base. */
  movl $0xc0000100, %ecx
  movl $thread_end, %eax
  xorl %edx, %edx
  wrmsr
  movl $0xd, %eax
  xorl %ecx, %ecx
  cpuid
  andl $0x602e7, %eax /* all but MPX and what is the supervisor's */
  xorl %edx, %edx
  xorl %ecx, %ecx
  xsetbv
  call run
1:
  hlt
  jmp 1b

  .section .note.GNU-stack, "", @progbits

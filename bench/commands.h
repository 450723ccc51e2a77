/*
 * The subcommands of dynq-bench. Each takes the arguments after its name and returns the program's status.
 */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

int bench_isa(int argc, char **argv);
int bench_linear(int argc, char **argv);
int bench_model(int argc, char **argv);

#endif

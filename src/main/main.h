/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program: from the command line to the loop and back.
 */
#pragma once

/* Runs the program; returns its exit status. */
int taploom_main(int argc, char **argv);

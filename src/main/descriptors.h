/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that were inherited.
 */
#pragma once

/* Closes all descriptors behind the standard streams but the n that are given; -1 is none. Before
 * the process has threads. */
void close_all_but(const int *kept, unsigned int n);

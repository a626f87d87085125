/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forwarded ports: binds what -t and -u ask for. Main thread, before privileges to bind low ports
 * are gone, and control thread.
 */
#pragma once

#include "taploom/config.h"
#include "taploom/runtime.h"
#include "taploom/thread.h"

/* Binds all ports of the rules of both protocols. Returns 0, or -errno after a line that names the
 * port. */
int forward_all(struct runtime *rt) ON_CONTROL;

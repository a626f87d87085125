/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taploom: starts the program; everything else is in folders that tests link.
 */
#include "main.h"

int main(int argc, char **argv)
{
	return taploom_main(argc, argv);
}

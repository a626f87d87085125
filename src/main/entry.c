/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taploom: starts the program; everything else is in folders that tests link.
 */
int main(void)
{
	return 0;
}

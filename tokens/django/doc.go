// SPDX-License-Identifier: MIT

// Package django reads what a Django backend leaves behind when its
// applications move to the gateway: password hashes and fixtures.
//
// [Verify] checks a secret against a hash as django.contrib.auth.hashers
// writes it, so that an imported application keeps its secret. It is slow by
// design; callers bound how many run at a time and replace the hash after its
// first use.
//
// [ReadDump] reads the applications of La Suite Meet, and the mail domains
// they are confined to, from the output of manage.py dumpdata.
//
// Both treat their input as hostile: sizes and costs are bounded, and no error
// or [Problem] repeats a secret or a hash.
package django

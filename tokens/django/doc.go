// SPDX-License-Identifier: MIT

// Package django reads password hashes and fixtures of Django, to import applications.
//
// [Verify] checks a secret against a hash of django.contrib.auth.hashers, so that an
// imported application keeps its secret. It is slow by design: callers bound how many run at
// a time, and replace the hash at its first use.
//
// [ReadDump] reads the applications of La Suite Meet and their mail domains from the output
// of manage.py dumpdata.
//
// Both treat their input as hostile: sizes and costs are bounded, and no error or [Problem]
// contains a secret or a hash.
package django

#pragma once
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/x509.h>

// The header has it as a macro that Swift does not see: a name on one line, in UTF-8.
static const unsigned long lethe_name_flags = XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB;
